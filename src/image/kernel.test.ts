import assert from 'node:assert/strict';
import { open, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, type TestContext, test } from 'node:test';
import { withDictionaryOf4GiB } from '../common/testing/xz.ts';
import { readElfKernel } from './elf.ts';
import { FormatError } from './format-error.ts';
import { bzImageRelease, kernelFormat, UnknownPackingError, unpackBzImage } from './kernel.ts';
import { pack, packings, sampleBzImage, sampleElf } from './testing/samples.ts';
import { scratchDirectory } from './testing/scratch.ts';

async function sampleFile(t: TestContext, content: Buffer): Promise<string> {
  const path = join(await scratchDirectory(t), 'sample');
  await writeFile(path, content);
  return path;
}

describe('unpackBzImage', () => {
  for (const packing of packings) {
    test(`finds the kernel packed with ${packing}`, async (t) => {
      const kernel = sampleElf(300_000);
      const path = await sampleFile(t, sampleBzImage(pack(packing, kernel)));
      assert.deepEqual(await unpackBzImage(path, `${path}.elf`), { end: kernel.length, pvh: true });
      assert.ok((await readFile(`${path}.elf`)).equals(kernel));
    });
  }

  test('cuts off relocations behind the kernel', async (t) => {
    const kernel = sampleElf(5000);
    const path = await sampleFile(t, sampleBzImage(pack('gzip', Buffer.concat([kernel, Buffer.alloc(700, 1)]))));
    await unpackBzImage(path, `${path}.elf`);
    assert.ok((await readFile(`${path}.elf`)).equals(kernel));
  });

  const damaged: readonly (readonly [string, Buffer])[] = [
    ['a payload beyond the end', sampleBzImage(pack('gzip', sampleElf())).subarray(0, -100)],
    ['a payload that is no kernel', sampleBzImage(pack('gzip', Buffer.alloc(5000, 7)))],
    ['a damaged gzip payload', sampleBzImage(Buffer.concat([Buffer.from('1f8b', 'hex'), Buffer.alloc(500, 3)]))],
    ['a damaged lz4 payload', sampleBzImage(Buffer.concat([Buffer.from('02214c18', 'hex'), Buffer.alloc(500, 0xff)]))],
    ['no bzImage', Buffer.alloc(4096)],
    ['an empty file', Buffer.alloc(0)],
  ];
  for (const [name, content] of damaged) {
    test(`refuses ${name}`, async (t) => {
      const path = await sampleFile(t, content);
      await assert.rejects(unpackBzImage(path, `${path}.elf`), FormatError);
    });
  }

  test('refuses one that takes gigabytes of memory to unpack', async (t) => {
    const packed = withDictionaryOf4GiB(pack('xz', sampleElf()));
    const path = await sampleFile(t, sampleBzImage(packed));
    await assert.rejects(unpackBzImage(path, `${path}.elf`), (error) => {
      assert.ok(error instanceof FormatError);
      assert.match(String(error.cause), /xz failed \(1\)/);
      return true;
    });
  });

  test('tells a packing it does not know from a damaged one', async (t) => {
    const path = await sampleFile(t, sampleBzImage(Buffer.from('894c5a4f000d0a1a0a00000000000000', 'hex')));
    await assert.rejects(unpackBzImage(path, `${path}.elf`), UnknownPackingError);
  });

  test('reads the release', async (t) => {
    assert.equal(await bzImageRelease(await sampleFile(t, sampleBzImage(Buffer.alloc(64), '6.1.0-9'))), '6.1.0-9');
  });
});

describe('kernelFormat', () => {
  const cases: readonly (readonly [string, Buffer])[] = [
    ['elf', sampleElf()],
    ['bzimage', sampleBzImage(Buffer.alloc(64))],
  ];
  for (const [format, content] of cases) {
    test(`knows ${format}`, async (t) => {
      await using file = await open(await sampleFile(t, content), 'r');
      assert.equal(await kernelFormat(file), format);
    });
  }

  test('refuses anything else', async (t) => {
    await using file = await open(await sampleFile(t, Buffer.from('#!/bin/sh\n')), 'r');
    await assert.rejects(kernelFormat(file), FormatError);
  });
});

describe('readElfKernel', () => {
  test('sees that there is no PVH entry', async (t) => {
    await using file = await open(await sampleFile(t, sampleElf(4096, { pvh: false })), 'r');
    assert.deepEqual(await readElfKernel(file), { end: 4096, pvh: false });
  });

  const farHeaders = sampleElf();
  farHeaders.writeBigUInt64LE(2n ** 63n, 32);
  const refused: readonly (readonly [string, Buffer])[] = [
    ['another machine', sampleElf(4096, { machine: 183 })],
    ['a cut off file', sampleElf().subarray(0, 2000)],
    ['a header alone', sampleElf().subarray(0, 64)],
    ['headers beyond any file', farHeaders],
  ];
  for (const [name, content] of refused) {
    test(`refuses ${name}`, async (t) => {
      await using file = await open(await sampleFile(t, content), 'r');
      await assert.rejects(readElfKernel(file), FormatError);
    });
  }
});
