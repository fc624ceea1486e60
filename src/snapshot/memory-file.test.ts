import assert from 'node:assert/strict';
import { mkdtemp, open, readFile, rm, stat, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, it } from 'node:test';
import fc from 'fast-check';
import { loadMemory, MemoryFileWriter, type MemoryIndex, memoryIndexSchema } from './memory-file.ts';

const pageBytes = 4096;
const memoryMiB = 1;
const pageCount = 256;

describe('memory files', () => {
  let dir: string;
  let count = 0;

  beforeEach(async () => {
    dir = await mkdtemp(join(tmpdir(), 'berth-memory-'));
  });
  afterEach(() => rm(dir, { recursive: true }));

  /** A page that is all `value`, but for its number at the end where it is not zero. */
  function page(number: number, value: number): Buffer {
    const bytes = Buffer.alloc(pageBytes, value);
    if (value !== 0) bytes.writeUInt32LE(number, pageBytes - 4);
    return bytes;
  }

  async function write(
    parts: readonly { readonly page: number; readonly bytes: Buffer }[],
    below: { readonly path: string; readonly index: MemoryIndex } | null = null,
  ) {
    const path = join(dir, `memory-${count++}`);
    await using writer = await MemoryFileWriter.create(path, memoryMiB);
    for (const part of parts) await writer.take(part.page, part.bytes);
    return { path, index: await writer.finish(below) };
  }

  async function load({ path, index }: { readonly path: string; readonly index: MemoryIndex }): Promise<Buffer> {
    const target = join(dir, `loaded-${count++}`);
    await writeFile(target, '');
    await truncate(target, memoryMiB * 1024 * 1024);
    await using file = await open(target, 'r+');
    await loadMemory(path, index, file);
    return readFile(target);
  }

  const values = fc.array(fc.constantFrom(0, 1, 2, 255), { minLength: pageCount, maxLength: pageCount });
  const pieces = fc.uniqueArray(fc.nat({ max: pageCount - 1 }), { maxLength: pageCount });

  it('give back what was taken down, in whatever pieces, over whatever was below', async () => {
    await fc.assert(
      fc.asyncProperty(values, values, pieces, pieces, async (older, newer, inOlder, inNewer) => {
        const below = await write(inOlder.map((n) => ({ page: n, bytes: page(n, older[n]!) })));
        const above = await write(
          inNewer.map((n) => ({ page: n, bytes: page(n, newer[n]!) })),
          below,
        );
        const expected = Array.from({ length: pageCount }, (_, n) =>
          inNewer.includes(n) ? page(n, newer[n]!) : inOlder.includes(n) ? page(n, older[n]!) : page(n, 0),
        );
        assert.ok((await load(above)).equals(Buffer.concat(expected)));
        assert.deepEqual(memoryIndexSchema.parse(JSON.parse(JSON.stringify(above.index))), above.index);
      }),
      { numRuns: 25 },
    );
  });

  it('take no room for pages of zeros', async () => {
    const { path } = await write([{ page: 0, bytes: Buffer.concat([page(0, 0), page(1, 7), page(2, 0)]) }]);
    assert.equal((await stat(path)).size, pageBytes);
  });

  it('that are damaged are refused', async () => {
    const written = await write([{ page: 3, bytes: Buffer.concat([page(3, 1), page(4, 2)]) }]);
    const whole = await readFile(written.path);
    const flipped = Buffer.from(whole);
    flipped[5000] = 9;
    const damaged: readonly [string, Buffer, MemoryIndex][] = [
      ['a changed byte', flipped, written.index],
      ['a missing end', whole.subarray(0, -1), written.index],
      ['nothing', Buffer.alloc(0), written.index],
      [
        'another order',
        whole,
        {
          ...written.index,
          runs: [
            [4, 1],
            [9, 1],
          ],
          sha256: '0'.repeat(64),
        },
      ],
      ['pages beyond the memory', whole, { ...written.index, runs: [[pageCount - 1, 2]] }],
    ];
    for (const [what, content, index] of damaged) {
      await writeFile(written.path, content);
      await assert.rejects(load({ path: written.path, index }), { code: 'snapshot_damaged' }, what);
    }
    await rm(written.path);
    await assert.rejects(load(written), { code: 'snapshot_damaged' });
  });
});
