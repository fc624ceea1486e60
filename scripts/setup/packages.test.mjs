import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { parsePackages } from './packages.mjs';

test('packages are those of every command and those of the command', () => {
  const list = '# comment\n\nqemu-utils\n  lz4 # why\ntest:clang\nbench:perf\n';
  assert.deepEqual(parsePackages(list, 'test'), ['qemu-utils', 'lz4', 'clang']);
  assert.deepEqual(parsePackages(list, 'demo'), ['qemu-utils', 'lz4']);
});

test('the shipped list is names of packages, each once, in order', () => {
  const names = parsePackages(readFileSync(new URL('../packages.txt', import.meta.url), 'utf8'), 'demo');
  assert.deepEqual(names, [...new Set(names)].toSorted());
  for (const name of names) assert.match(name, /^[a-z0-9][a-z0-9+.-]+$/);
});
