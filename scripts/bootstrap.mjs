/**
 * From a bare Debian machine to a running command: `node scripts/bootstrap.mjs demo|start|test|bench [args...]`.
 *
 * Runs on the machine's own Node (20 or newer) with nothing installed; what it starts runs on the pinned one. The times
 * of its steps are handed on in BERTH_SETUP_TIMINGS, a JSON array of `{ step, seconds }`.
 */

import { spawn } from 'node:child_process';
import { constants } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { ensureDependencies, pinnedNode } from './setup/dependencies.mjs';
import { ensurePackages } from './setup/packages.mjs';
import { SetupError, Steps } from './setup/steps.mjs';

const root = dirname(dirname(fileURLToPath(import.meta.url)));

const targets = {
  demo: ['src/cli/main.ts', 'demo'],
  start: ['src/cli/main.ts', 'serve'],
  test: ['scripts/test.mjs'],
  bench: ['bench/main.ts'],
};

async function main() {
  const [name = '', ...args] = process.argv.slice(2);
  if (!Object.hasOwn(targets, name)) {
    throw new SetupError(`usage: node scripts/bootstrap.mjs ${Object.keys(targets).join('|')} [args...]`);
  }
  const steps = new Steps();
  await steps.run('packages', (step) => ensurePackages(step, join(root, 'scripts', 'packages.txt'), name));
  await steps.run('dependencies', (step) => ensureDependencies(step, root));
  await steps.run('sandbox image', () => exitCode([join(root, 'scripts', 'ensure-image.mjs'), 'sandbox'])).then(must);
  const [script, ...first] = targets[name];
  return exitCode([join(root, script), ...first, ...args], { BERTH_SETUP_TIMINGS: JSON.stringify(steps.timings) });
}

/** Runs the pinned Node with our terminal; signals sent to us are passed on. */
function exitCode(args, env = {}) {
  const child = spawn(pinnedNode(root), args, { stdio: 'inherit', env: { ...process.env, ...env } });
  const forward = (signal) => child.kill(signal);
  // A terminal sends its interrupts to the whole foreground group: the child has it already.
  const interrupt = process.stdin.isTTY ? () => {} : forward;
  process.on('SIGTERM', forward).on('SIGHUP', forward).on('SIGINT', interrupt);
  return new Promise((resolve, reject) => {
    child.on('error', reject);
    child.on('exit', (code, signal) => {
      process.off('SIGTERM', forward).off('SIGHUP', forward).off('SIGINT', interrupt);
      resolve(code ?? 128 + constants.signals[signal]);
    });
  });
}

function must(code) {
  if (code !== 0) process.exit(code);
}

try {
  process.exitCode = await main();
} catch (error) {
  if (!(error instanceof SetupError)) throw error;
  console.error(error.message);
  process.exitCode = 1;
}
