/**
 * Everything that tells whether the code is good: `npm test`, or `npm test -- <words>` for the checks and test files whose
 * name or path holds one of the words. The last line is `N passed, N failed`; a check counts as one.
 */

import { spawn } from 'node:child_process';
import { globSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { run } from 'node:test';
import { spec } from 'node:test/reporters';
import { fileURLToPath } from 'node:url';
import { findBuiltImage } from '../src/image/build.ts';

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const minute = 60_000;

const checks = [
  { name: 'format and lint', command: ['@biomejs/biome/bin/biome', 'check', '--error-on-warnings'] },
  { name: 'types', command: ['typescript/bin/tsc', '-p', '.'] },
  { name: 'layers', command: ['../scripts/check-layers.mjs'] },
  { name: 'generated code', command: ['../scripts/check-generated.mjs'] },
  { name: 'unused code', command: ['knip/bin/knip.js'] },
];

const suites = [
  {
    name: 'unit tests',
    files: ['src/**/*.test.ts', 'scripts/**/*.test.mjs', 'bench/**/*.test.ts'],
    except: '.e2e.test.ts',
    options: { concurrency: 2, timeout: 10 * minute },
  },
  {
    // One after the other: they start virtual machines and share the host's processors.
    name: 'end to end tests',
    files: ['src/**/*.e2e.test.ts', 'test/**/*.test.ts'],
    options: { concurrency: 1, timeout: 15 * minute },
  },
];

// Test files run in processes of their own, which inherit this.
const image = await findBuiltImage('sandbox');
if (!image) throw new Error('the sandbox image is not built: run npm test, which builds it');
process.env.BERTH_TEST_KERNEL = image.kernel;
process.env.BERTH_TEST_ROOTFS = image.rootfs;

const words = process.argv.slice(2);
const wanted = (text) => words.length === 0 || words.some((word) => text.includes(word));
const total = { passed: 0, failed: 0, skipped: 0 };
const abort = new AbortController();
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.on(signal, () => abort.abort());

for (const { name, command } of checks) {
  if (!wanted(name)) continue;
  heading(name);
  const passed = await runCheck(command);
  total[passed ? 'passed' : 'failed']++;
  console.log(passed ? 'ok' : 'FAILED');
}
for (const { name, files, except, options } of suites) {
  const found = globSync(files, { cwd: root })
    .filter((file) => wanted(file) && !(except && file.endsWith(except)) && !file.includes('node_modules'))
    .sort();
  if (found.length === 0) continue;
  heading(name);
  await runSuite(found, options);
}

if (total.skipped > 0) console.log(`${total.skipped} skipped`);
console.log(`${total.passed} passed, ${total.failed} failed`);
process.exit(total.failed === 0 && total.passed > 0 && !abort.signal.aborted ? 0 : 1);

function heading(name) {
  console.log(`\n== ${name}`);
}

/** Runs a script of node_modules on this Node. */
function runCheck([script, ...args]) {
  if (abort.signal.aborted) return Promise.resolve(false);
  return new Promise((resolve) => {
    const child = spawn(process.execPath, [join(root, 'node_modules', script), ...args], {
      cwd: root,
      stdio: ['ignore', 'inherit', 'inherit'],
    });
    const stop = () => child.kill();
    abort.signal.addEventListener('abort', stop);
    child.on('error', () => resolve(false));
    child.on('exit', (code) => {
      abort.signal.removeEventListener('abort', stop);
      resolve(code === 0);
    });
  });
}

/** Runs test files with the report on standard output, and adds up what the runner itself counted. */
async function runSuite(files, options) {
  const stream = run({ cwd: root, files: files.map((file) => join(root, file)), signal: abort.signal, ...options });
  stream.on('test:summary', ({ file, counts }) => {
    // There is a summary of every file too.
    if (file !== undefined) return;
    total.passed += counts.passed;
    total.failed += counts.tests - counts.passed - counts.skipped - counts.todo;
    total.skipped += counts.skipped + counts.todo;
  });
  for await (const text of stream.compose(spec)) process.stdout.write(text);
}
