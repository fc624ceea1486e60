import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { closeSync, fstatSync, openSync, readSync, writeSync } from 'node:fs';
import { mkdir, mkdtemp, open, rm, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, it } from 'node:test';
import { BerthError } from '../common/errors.ts';
import { LoadedMemories, type MemoryHost } from './loaded-memories.ts';
import { MemoryFileWriter } from './memory-file.ts';
import { memoryFiles, writeMemoryManifest } from './memory-files.ts';

const host = { fingerprint: 'f', counterKhz: 2_000_000 };
const mib = 1024 * 1024;

describe('loaded memories', () => {
  let root: string;
  let memories: LoadedMemories;

  beforeEach(async () => {
    root = await mkdtemp(join(tmpdir(), 'berth-memories-'));
    memories = new LoadedMemories(8 * mib);
  });
  afterEach(async () => {
    await memories.close();
    await rm(root, { recursive: true });
  });

  async function captured(name: string, content: Buffer, change: Partial<MemoryHost> = {}): Promise<string> {
    const dir = join(root, name);
    const files = memoryFiles(dir);
    await mkdir(dir);
    await writeFile(files.state, `state of ${name}`);
    await using writer = await MemoryFileWriter.create(files.memory, 2);
    await writer.take(0, content);
    const stateSha256 = createHash('sha256').update(`state of ${name}`).digest('hex');
    await writeMemoryManifest(dir, { ...host, ...change, stateSha256, memory: await writer.finish(null) });
    return dir;
  }

  const read = (fd: number) => {
    const bytes = Buffer.alloc(4);
    readSync(fd, bytes, 0, 4, 0);
    return bytes.toString();
  };

  it('are of the size of the guest memory, and nobody can change them', async () => {
    const dir = await captured('one', Buffer.alloc(4096, 'abcd'));
    await memories.using(dir, host, async ({ memoryFd, stateFd }) => {
      assert.equal(read(memoryFd), 'abcd');
      assert.equal(read(stateFd), 'stat');
      assert.equal(fstatSync(memoryFd).size, 2 * mib);
      const again = openSync(`/proc/self/fd/${memoryFd}`, 'r+');
      assert.throws(() => writeSync(again, 'x', 0), { code: 'EPERM' });
      closeSync(again);
    });
  });

  it('are refused under another fingerprint, and when a file is damaged', async () => {
    const dir = await captured('one', Buffer.alloc(4096, 1));
    const use = async () => assert.fail('must not be used');
    await assert.rejects(memories.using(dir, { ...host, fingerprint: 'other' }, use), { code: 'snapshot_mismatch' });
    await writeFile(memoryFiles(dir).state, 'another state');
    await assert.rejects(memories.using(dir, host, use), { code: 'snapshot_damaged' });
    await writeFile(memoryFiles(dir).manifest, '{}');
    await assert.rejects(new LoadedMemories(mib).using(dir, host, use), { code: 'snapshot_damaged' });
    await assert.rejects(memories.using(join(root, 'none'), host, use), { code: 'snapshot_damaged' });
  });

  it('are refused where clocks would run at another rate, unless none is known', async () => {
    const known = await captured('one', Buffer.alloc(4096, 1));
    const unknown = await captured('two', Buffer.alloc(4096, 1), { counterKhz: null });
    const isUsed = async (dir: string, counterKhz: number | null) => {
      let used = false;
      const using = memories.using(dir, { ...host, counterKhz }, async () => {
        used = true;
      });
      await using.catch((error) => assert.equal(error.code, 'snapshot_mismatch'));
      return used;
    };
    for (const [khz, expected] of [
      [2_000_000, true],
      [2_003_000, true],
      [1_997_000, true],
      [2_005_000, false],
      [1_995_000, false],
      [2_900_000, false],
      [null, true],
    ] as const)
      assert.deepEqual([await isUsed(known, khz), await isUsed(unknown, khz)], [expected, true], `${khz}`);
  });

  it('are refused for a state that is none by its size, before it is read', async () => {
    const dir = await captured('one', Buffer.alloc(4096, 1));
    for (const bytes of [0, 64 * mib + 1, 3 * 1024 * mib]) {
      await truncate(memoryFiles(dir).state, bytes);
      await assert.rejects(memories.load(dir), (error) => {
        assert.ok(error instanceof BerthError && error.cause instanceof Error);
        assert.deepEqual([error.code, error.cause.message], ['snapshot_damaged', `a device state of ${bytes} bytes`]);
        return true;
      });
    }
  });

  it('stay open for those who use them, whatever is forgotten meanwhile', async () => {
    const dir = await captured('one', Buffer.alloc(4096, 'abcd'));
    await memories.using(dir, host, async ({ memoryFd }) => {
      await memories.forget(dir);
      assert.equal(read(memoryFd), 'abcd');
    });
  });

  it('are loaded once, until there are too many', async () => {
    const large = Buffer.alloc(mib, 1);
    const small = new LoadedMemories(1.5 * mib);
    const [one, two] = [await captured('one', large), await captured('two', large)];
    await Promise.all([small.load(one), small.load(one)]);
    // What is loaded is not read again: the file may even be gone.
    await rm(memoryFiles(one).memory);
    await small.using(one, host, async () => {});
    await small.load(two);
    await assert.rejects(
      small.using(one, host, async () => {}),
      { code: 'snapshot_damaged' },
    );
    await small.close();
  });

  it('are not let go of between their loading and their use', async () => {
    const large = Buffer.alloc(mib, 1);
    const small = new LoadedMemories(1.5 * mib);
    const [one, two] = [await captured('one', large), await captured('two', large)];
    await small.load(one);
    const using = small.using(two, host, async ({ memoryFd }) => read(memoryFd));
    await small.using(one, host, async () => {});
    await small.forget(two);
    assert.equal(await using, '\x01\x01\x01\x01');
    await small.close();
  });

  it('that could not be loaded are tried again', async () => {
    const dir = await captured('one', Buffer.alloc(4096, 'abcd'));
    const state = await open(memoryFiles(dir).state, 'r+');
    await state.write('X', 0);
    await assert.rejects(memories.load(dir), { code: 'snapshot_damaged' });
    await state.write('s', 0);
    await state.close();
    await memories.using(dir, host, async ({ memoryFd }) => assert.equal(read(memoryFd), 'abcd'));
  });
});
