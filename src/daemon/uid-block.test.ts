import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdir, mkdtemp, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, it } from 'node:test';
import { promisify } from 'node:util';
import { claimUidBlock } from './uid-block.ts';

describe('uid blocks', () => {
  let root: string;
  let registry: string;

  beforeEach(async () => {
    root = await mkdtemp(join(tmpdir(), 'berth-uids-'));
    registry = join(root, 'host', 'uids.db');
  });
  afterEach(() => rm(root, { recursive: true }));

  async function home(name: string): Promise<string> {
    await mkdir(join(root, name), { recursive: true });
    return join(root, name);
  }

  const claim = async (name: string, first = 300_000) => claimUidBlock(await home(name), first, registry);

  it('are one for each data directory, the same at every start', async () => {
    assert.deepEqual([await claim('a'), await claim('b'), await claim('c')], [300_000, 310_000, 320_000]);
    assert.deepEqual([await claim('c'), await claim('a'), await claim('b')], [320_000, 300_000, 310_000]);
  });

  it('are free again when the data directory is gone', async () => {
    for (const name of ['a', 'b', 'c']) await claim(name);
    await rm(join(root, 'b'), { recursive: true });
    assert.deepEqual([await claim('d'), await claim('e')], [310_000, 330_000]);
  });

  it('move with the data directory, and are found again in it when the registry is lost', async () => {
    for (const name of ['a', 'b']) await claim(name);
    await rename(join(root, 'b'), join(root, 'moved'));
    assert.equal(await claim('moved'), 310_000);
    await rm(registry);
    assert.deepEqual([await claim('moved'), await claim('a')], [310_000, 300_000]);
  });

  it('are not shared with a copy of the data directory', async () => {
    await claim('a');
    await writeFile(join(await home('copy'), 'uid-base'), await readFile(join(root, 'a', 'uid-base')));
    assert.equal(await claim('copy'), 310_000);
  });

  it('do not overlap when daemons begin at different uids; one that changes its first uid keeps the old block', async () => {
    assert.equal(await claim('a', 305_000), 305_000);
    assert.equal(await claim('b', 300_000), 315_000);
    assert.equal(await claim('a', 400_000), 400_000);
    assert.equal(await claim('c', 300_000), 325_000);
    assert.equal(await claim('a', 305_000), 305_000);
  });

  it('are refused where no uids are left', async () => {
    assert.equal(await claim('a', 2 ** 31 - 10_000), 2 ** 31 - 10_000);
    await assert.rejects(claim('b', 2 ** 31 - 10_000), /no 10000 user ids are left/);
  });

  it('differ for daemons that start at the same moment', async () => {
    const module = JSON.stringify(new URL('./uid-block.ts', import.meta.url).href);
    const homes = await Promise.all(Array.from({ length: 6 }, (_, index) => home(`h${index}`)));
    const run = promisify(execFile);
    const bases = await Promise.all(
      homes.map(async (path) => {
        const script = `const { claimUidBlock } = await import(${module});
          console.log(await claimUidBlock(${JSON.stringify(path)}, 300000, ${JSON.stringify(registry)}));`;
        const { stdout } = await run(process.execPath, ['--input-type=module', '-e', script]);
        return Number(stdout);
      }),
    );
    assert.deepEqual(
      bases.toSorted((a, b) => a - b),
      homes.map((_, index) => 300_000 + index * 10_000),
    );
  });
});
