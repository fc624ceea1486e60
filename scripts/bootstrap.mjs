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
  demo: { images: ['sandbox'], command: [join(root, 'bin/berth'), 'demo'] },
  start: { images: ['sandbox'], command: [join(root, 'bin/berth'), 'serve'] },
  test: { images: ['sandbox', 'kernel-builtin'], command: isolated(join(root, 'scripts/test.mjs')) },
  bench: { images: ['sandbox'], command: isolated(join(root, 'bench/main.ts')) },
};

async function main() {
  const [name = '', ...args] = process.argv.slice(2);
  if (!Object.hasOwn(targets, name)) {
    throw new SetupError(`usage: node scripts/bootstrap.mjs ${Object.keys(targets).join('|')} [args...]`);
  }
  const steps = new Steps();
  await steps.run('packages', (step) => ensurePackages(step, join(root, 'scripts', 'packages.txt'), name));
  await steps.run('dependencies', (step) => ensureDependencies(step, root));
  const { images, command } = targets[name];
  for (const image of images) {
    const ensure = [pinnedNode(root), join(root, 'scripts', 'ensure-image.mjs'), image];
    must(await steps.run(`${image} image`, () => exitCode(ensure)));
  }
  return exitCode([...command, ...args], { BERTH_SETUP_TIMINGS: JSON.stringify(steps.timings) });
}

/**
 * Tests and benches give addresses to VMs: they run in a network namespace of their own, which has a loopback and no way
 * out, and which is gone with its last process.
 */
function isolated(script) {
  const run = 'ip link set lo up && exec "$@"';
  return ['unshare', '--net', 'sh', '-c', run, 'sh', pinnedNode(root), script];
}

/** Runs a command with our terminal; signals sent to us are passed on. */
function exitCode([program, ...args], env = {}) {
  const child = spawn(program, args, { stdio: 'inherit', env: { ...process.env, ...env } });
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
