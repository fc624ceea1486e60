import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { promisify } from 'node:util';
import { measureTscKhz, parseTscReading } from './host-tsc.ts';
import { tinyInitramfs } from './tiny-initramfs.ts';
import { print, program, syscall } from './tiny-program.ts';

let dir: string;
before(async () => {
  dir = await mkdtemp(join(tmpdir(), 'berth-tiny-'));
});
after(() => rm(dir, { recursive: true }));

test('a program runs: it prints and ends with its status', async () => {
  const path = join(dir, 'hello');
  await writeFile(path, program(print('hello, '), print('world\n'), syscall('exit', 0)), { mode: 0o700 });
  assert.equal((await promisify(execFile)(path)).stdout, 'hello, world\n');
});

test('a program that does not fit is refused', () => {
  assert.throws(() => program(print('x'.repeat(4096))), RangeError);
});

test('the initramfs unpacks to what was put in', async () => {
  const content = Buffer.from('#!/bin/sh\n');
  const unpack = promisify(execFile)('cpio', ['-i', '--quiet', '--to-stdout', 'init'], { encoding: 'buffer' });
  unpack.child.stdin?.end(tinyInitramfs(content));
  assert.deepEqual((await unpack).stdout, content);
});

test("the counter's rate is measured", async () => {
  const khz = await measureTscKhz(dir);
  assert.ok(khz > 100_000 && khz < 20_000_000, String(khz));
});

test('a rate follows from two readings', () => {
  const bytes = Buffer.alloc(64);
  const put = (offset: number, before: bigint, seconds: bigint, nanoseconds: bigint, after: bigint) => {
    [before, seconds, nanoseconds, after].forEach((value, index) => {
      bytes.writeBigUInt64LE(value, offset + index * 8);
    });
  };
  put(0, 1_000n, 9n, 999_999_000n, 1_200n);
  put(32, 200_001_000n, 10n, 99_999_000n, 200_001_200n);
  assert.deepEqual(parseTscReading(bytes), { khz: 2_000_000, uncertainCycles: 400n });
  put(32, 1_000n, 10n, 99_999_000n, 1_200n);
  assert.throws(() => parseTscReading(bytes), /does not advance/);
  assert.throws(() => parseTscReading(bytes.subarray(1)), /incomplete/);
});
