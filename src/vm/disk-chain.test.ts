import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, it } from 'node:test';
import fc from 'fast-check';
import { watchSyncs } from '../common/testing/syncs.ts';
import { createOverlay } from '../disk/qcow2.ts';
import { chainBytes, dropUnusedLayers, layerNames, layersToKeep, readChain } from './disk-chain.ts';
import { VmLayout } from './layout.ts';
import { writeManifest } from './manifest.ts';
import { newLayerName } from './steps/files.ts';

const MiB = 1024 * 1024;

describe('the layers of a disk', () => {
  const id = randomUUID();
  let layout: VmLayout;
  let dir: string;

  beforeEach(async () => {
    layout = new VmLayout(await mkdtemp(join(tmpdir(), 'berth-chain-')));
    dir = layout.dir(id);
    await mkdir(dir, { recursive: true });
    await writeFile(join(dir, 'base.ext4'), Buffer.alloc(MiB));
  });
  afterEach(() => rm(layout.home, { recursive: true }));

  async function layerOver(backing: string): Promise<string> {
    const name = newLayerName();
    const backingFormat = backing === 'base.ext4' ? 'raw' : 'qcow2';
    await createOverlay({ path: join(dir, name), backing, backingFormat, sizeBytes: MiB, uid: null });
    return name;
  }
  const atLayer = (layer: string) => writeManifest(layout.manifest(id), { version: 1, id, layer });

  it('are found from the newest to the image', async () => {
    const first = await layerOver('base.ext4');
    const second = await layerOver(first);
    await atLayer(second);
    const chain = await readChain(layout, id);
    assert.deepEqual(chain, [second, first, 'base.ext4']);
    assert.equal((await chainBytes(dir, chain)).at(-1), MiB);
  });

  it('that lead elsewhere are refused', async () => {
    await assert.rejects(readChain(layout, id), /without a manifest/);
    await writeFile(join(dir, 'other.qcow2'), '');
    for (const elsewhere of ['other.qcow2', 'vmlinux', newLayerName()]) {
      await atLayer(await layerOver(elsewhere));
      await assert.rejects(readChain(layout, id), /do not lead to its image/);
    }
    const [one, other] = [newLayerName(), newLayerName()];
    for (const [name, backing] of [
      [one, other],
      [other, one],
    ] as const)
      await createOverlay({ path: join(dir, name), backing, backingFormat: 'qcow2', sizeBytes: MiB, uid: null });
    await atLayer(one);
    await assert.rejects(readChain(layout, id), /do not lead to its image/);
    assert.equal((await layerNames(dir)).length, 5);
  });

  it('that are not in use any more go, and nothing else does', async () => {
    const first = await layerOver('base.ext4');
    const unused = await layerOver(first);
    const newest = await layerOver(first);
    await layerOver(unused);
    await atLayer(newest);
    await writeFile(join(dir, 'data0.qcow2'), '');
    await dropUnusedLayers(layout, id);
    assert.deepEqual((await readdir(dir)).sort(), ['base.ext4', 'data0.qcow2', 'manifest.json', first, newest].sort());
    await dropUnusedLayers(layout, id);
    assert.deepEqual((await layerNames(dir)).toSorted(), [first, newest].sort());
  });

  it('go when all headers are durable that may have named them: not the newest alone was written', async (test) => {
    const merged = await layerOver('base.ext4');
    const [unused, newest] = [await layerOver('base.ext4'), await layerOver(merged)];
    await atLayer(newest);
    const synced: [path: string, isUnusedThere: boolean][] = [];
    await watchSyncs(test, (path) => synced.push([path, existsSync(join(dir, unused))]));
    await dropUnusedLayers(layout, id);
    const expected = [newest, merged].map((name) => [join(dir, name), true]);
    assert.deepEqual([synced.slice(0, -1).sort(), synced.at(-1)], [expected.sort(), [dir, false]]);
  });
});

describe('what a merge leaves alone', () => {
  it('is what is larger than all above it, as far as it may be left', () => {
    for (const [bytes, most, keep] of [
      [[], 4, 0],
      [[1, 1, 1, 1, 1, 1, 1, 1], 4, 0],
      [[100, 1, 1, 1, 1, 1, 1, 1], 4, 1],
      [[100, 50, 1, 1, 1, 1, 1, 1], 4, 2],
      [[7, 1, 1, 1, 1, 1, 1, 1], 4, 0],
      [[8, 1, 1, 1, 1, 1, 1, 1], 4, 1],
      [[1, 100, 1, 1, 1, 1, 1, 1], 4, 0],
      [[256, 128, 64, 32, 16, 8, 4, 2, 1], 4, 4],
      [[256, 128, 64, 32, 16, 8, 4, 2, 1], 1, 1],
      [[256, 128, 64, 32, 16, 8, 4, 2, 1], 0, 0],
    ] as const)
      assert.equal(layersToKeep(bytes, most), keep, `${bytes}, at most ${most}`);
  });

  it('keeps chains short, and copies what was written a few times only', () => {
    const [merged, most] = [8, 4];
    fc.assert(
      fc.property(fc.array(fc.integer({ min: 1, max: 1000 }), { minLength: 100, maxLength: 400 }), (written) => {
        const layers: number[] = [];
        let copied = 0;
        for (const size of written) {
          layers.push(size);
          if (layers.length <= merged) continue;
          const keep = layersToKeep(layers.slice(0, -1), most);
          const taken = layers.splice(keep);
          copied += taken.slice(0, -1).reduce((sum, bytes) => sum + bytes, 0);
          layers.push(taken.reduce((sum, bytes) => sum + bytes, 0));
          assert.ok(layers.length <= most + 1);
        }
        const total = written.reduce((sum, bytes) => sum + bytes, 0);
        assert.ok(copied <= total * 8, `${copied} of ${total}`);
      }),
    );
  });
});
