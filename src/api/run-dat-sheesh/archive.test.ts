import assert from 'node:assert/strict';
import { Readable } from 'node:stream';
import { buffer } from 'node:stream/consumers';
import { describe, test } from 'node:test';
import { gzipSync } from 'node:zlib';
import fc from 'fast-check';
import { extract, type Header, pack } from 'tar-stream';
import { checkArchive, entryPath, repackArchive } from './archive.ts';

const limits = { maxEntries: 10, maxUnpackedBytes: 10_000 };

type Entry = readonly [header: Partial<Header> & { readonly name: string }, content?: string];

async function archive(...entries: readonly Entry[]): Promise<Buffer> {
  const packer = pack();
  for (const [header, content = ''] of entries) packer.entry(header as Header, content);
  packer.finalize();
  return gzipSync(await buffer(packer));
}

function check(bytes: Buffer): Promise<void> {
  return checkArchive(Readable.from([bytes]), limits);
}

async function entriesOf(tar: Buffer): Promise<Record<string, unknown>[]> {
  const entries = Readable.from([tar]).pipe(extract());
  const found: Record<string, unknown>[] = [];
  for await (const entry of entries) {
    const { name, type, mode, uid } = entry.header;
    found.push({ name, type, mode, uid, content: (await buffer(entry as unknown as Readable)).toString() });
  }
  return found;
}

describe('checkArchive', () => {
  const good: readonly (readonly Entry[])[] = [
    [],
    [[{ name: './', type: 'directory' }], [{ name: './a' }, 'x'], [{ name: 'b/c/d' }, 'y']],
    [[{ name: '..foo' }, 'x']],
    [[{ name: 'a/../b' }, 'x']],
    [[{ name: `${'n'.repeat(120)}/${'ü'.repeat(80)}` }, 'x']],
    [[{ name: 'full' }, 'x'.repeat(10_000)]],
  ];
  for (const [index, entries] of good.entries()) {
    test(`accepts ${index}`, async () => check(await archive(...entries)));
  }

  const bad: readonly [name: string, entries: readonly Entry[], message: string][] = [
    ['an absolute name', [[{ name: '/etc/passwd' }]], 'Invalid tar entry'],
    ['a way up', [[{ name: '../x' }]], 'Invalid tar entry'],
    ['a way up in the middle', [[{ name: 'a/../../x' }]], 'Invalid tar entry'],
    ['a symbolic link', [[{ name: 'l', type: 'symlink', linkname: '/etc' }]], 'Tar contains disallowed entry type'],
    ['a hard link', [[{ name: 'l', type: 'link', linkname: 'a' }]], 'Tar contains disallowed entry type'],
    ['a device', [[{ name: 'd', type: 'block-device' }]], 'Tar contains disallowed entry type'],
    ['a pipe', [[{ name: 'p', type: 'fifo' }]], 'Tar contains disallowed entry type'],
    ['too many', Array.from({ length: 11 }, (_, i): Entry => [{ name: `f${i}` }]), 'Too many tar entries'],
    ['too much', [[{ name: 'a' }, 'x'.repeat(10_001)]], 'Tar exceeds uncompressed size limit'],
    [
      'too much together',
      [
        [{ name: 'a' }, 'x'.repeat(6000)],
        [{ name: 'b' }, 'x'.repeat(6000)],
      ],
      'Tar exceeds uncompressed size limit',
    ],
  ];
  for (const [name, entries, message] of bad) {
    test(`refuses ${name}, also behind a good entry`, async () => {
      await assert.rejects(check(await archive(...entries)), { message, statusCode: 400 });
      await assert.rejects(check(await archive([{ name: 'good' }, 'x'], ...entries)), { message });
    });
  }

  test('refuses what is no archive', async () => {
    const whole = await archive([{ name: 'a' }, 'x'.repeat(5000)]);
    for (const bytes of [Buffer.alloc(0), Buffer.from('junk'), gzipSync('junk'), whole.subarray(0, whole.length / 2)]) {
      await assert.rejects(check(bytes), { message: 'Invalid tar archive', statusCode: 400 });
    }
  });

  test('refuses endless zeros behind the end', async () => {
    const bytes = gzipSync(Buffer.alloc(1_000_000));
    await assert.rejects(check(bytes), { message: 'Tar exceeds uncompressed size limit' });
  });

  test('any bytes are accepted or refused with 400', async () => {
    const whole = await archive([{ name: 'dir/', type: 'directory' }], [{ name: 'dir/a' }, 'hello']);
    await fc.assert(
      fc.asyncProperty(fc.nat(whole.length - 1), fc.nat(255), async (at, byte) => {
        const bytes = Buffer.from(whole);
        bytes[at] = byte;
        const outcome = await check(bytes).then(
          () => 400,
          (error: { statusCode?: number }) => error.statusCode,
        );
        assert.equal(outcome, 400);
      }),
    );
  });
});

describe('entryPath', () => {
  test('is the destination or below', () => {
    assert.equal(entryPath('./'), '.');
    assert.equal(entryPath('./a//b/'), 'a/b');
    assert.throws(() => entryPath(''), /Invalid tar entry/);
    assert.throws(() => entryPath('x'.repeat(5000)), /Invalid tar entry/);
  });
});

describe('repackArchive', () => {
  test('keeps files and directories and nothing else of them', async () => {
    const bytes = await archive(
      [{ name: './', type: 'directory', mode: 0o777 }],
      [{ name: './dir', type: 'directory', mode: 0o003 }],
      [{ name: './dir/tool', mode: 0o4777, uid: 7, uname: 'x' }, '#!'],
      [{ name: 'ü'.repeat(120), mode: 0o666 }, 'long'],
    );
    const tar = await buffer(repackArchive(Readable.from([bytes]), limits));
    assert.deepEqual(await entriesOf(tar), [
      { name: 'dir/', type: 'directory', mode: 0o701, uid: 0, content: '' },
      { name: 'dir/tool', type: 'file', mode: 0o755, uid: 0, content: '#!' },
      { name: 'ü'.repeat(120), type: 'file', mode: 0o644, uid: 0, content: 'long' },
    ]);
  });

  test('a reader sees the failure', async () => {
    const bytes = await archive([{ name: '../x' }, 'x']);
    await assert.rejects(buffer(repackArchive(Readable.from([bytes]), limits)), /Invalid tar entry/);
  });
});
