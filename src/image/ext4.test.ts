import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { open, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { checkExt4 } from './ext4.ts';
import { FormatError } from './format-error.ts';
import { sampleExt4 } from './testing/samples.ts';
import { scratchDirectory } from './testing/scratch.ts';

describe('checkExt4', () => {
  test('accepts what mke2fs makes', async (t) => {
    const path = join(await scratchDirectory(t), 'image');
    execFileSync('mke2fs', ['-q', '-t', 'ext4', path, '2M']);
    await using file = await open(path, 'r');
    await checkExt4(file);
  });

  const accepted: readonly (readonly [string, Buffer])[] = [
    ['a clean file system', sampleExt4()],
    ['a journal to replay', sampleExt4(65536, { state: 0, incompat: 0x44 })],
    ['bytes behind the file system', Buffer.concat([sampleExt4(), Buffer.alloc(5000)])],
  ];
  for (const [name, content] of accepted) {
    test(`accepts ${name}`, async (t) => {
      const path = join(await scratchDirectory(t), 'image');
      await writeFile(path, content);
      await using file = await open(path, 'r');
      await checkExt4(file);
    });
  }

  const refused: readonly (readonly [string, Buffer])[] = [
    ['another magic', sampleExt4(65536, { magic: 0x1234 })],
    ['a file without a superblock', Buffer.alloc(1000)],
    ['a cut off file', sampleExt4(65536, { blocks: 17 })],
    ['a file cut off by far', sampleExt4(65536, { blocks: 2 ** 32 - 1 })],
    ['no blocks', sampleExt4(65536, { blocks: 0 })],
    ['a block size beyond reason', sampleExt4(65536, { logBlockSize: 40 })],
    ['a file system with errors', sampleExt4(65536, { state: 3 })],
    ['an unclean one without a journal', sampleExt4(65536, { state: 0, compat: 0 })],
    ['a journal device', sampleExt4(65536, { incompat: 0x8 })],
  ];
  for (const [name, content] of refused) {
    test(`refuses ${name}`, async (t) => {
      const path = join(await scratchDirectory(t), 'image');
      await writeFile(path, content);
      await using file = await open(path, 'r');
      await assert.rejects(checkExt4(file), FormatError);
    });
  }
});
