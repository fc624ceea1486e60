import { readdir, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { syncAll, syncPath } from '../common/files.ts';
import { readBacking } from '../disk/backing.ts';
import { baseName, isLayerName, type VmLayout } from './layout.ts';
import { readManifest } from './manifest.ts';

/** Every snapshot adds a layer to the VM's disk, and QEMU opens, and looks through, every one of them. */
export const maxLayers = 32;

/** Layers in the directory of a VM, in no order. */
export async function layerNames(dir: string): Promise<readonly string[]> {
  return (await readdir(dir)).filter(isLayerName);
}

/**
 * The files that a VM's root disk is made of, newest first, the image's last: as the headers say, of which a VM's process
 * writes the first. Throws when they lead anywhere else than through the directory's layers to the image.
 */
export async function readChain(layout: VmLayout, vmId: string): Promise<readonly string[]> {
  const manifest = await readManifest(layout.manifest(vmId));
  if (!manifest) throw new Error('a VM without a manifest');
  return chainFrom(layout.dir(vmId), manifest.layer);
}

/** As {@link readChain}, from a layer of whatever directory. */
export async function chainFrom(dir: string, newest: string): Promise<readonly string[]> {
  const names = await layerNames(dir);
  const chain: string[] = [];
  for (let name: string | null = newest; name !== baseName; name = await readBacking(join(dir, name))) {
    if (name === null || !names.includes(name) || chain.includes(name))
      throw new Error("a VM's disk layers do not lead to its image");
    chain.push(name);
  }
  return [...chain, baseName];
}

/** What each of a chain's files takes on the disk, bytes. */
export async function chainBytes(dir: string, chain: readonly string[]): Promise<readonly number[]> {
  return Promise.all(chain.map(async (name) => (await stat(join(dir, name))).blocks * 512));
}

/**
 * How many of the lowest layers a merge leaves alone. `bytes` are the sizes of those below the newest, lowest first. One
 * that is larger than all above it together is not worth copying: so a large disk of which little changes is not written
 * anew, to lie there once more for each snapshot, every few snapshots. At most `most` are left.
 */
export function layersToKeep(bytes: readonly number[], most: number): number {
  let keep = 0;
  let above = bytes.reduce((sum, size) => sum + size, 0);
  for (const [index, size] of bytes.slice(0, most).entries()) {
    above -= size;
    if (size <= above) break;
    keep = index + 1;
  }
  return keep;
}

/**
 * Removes the layers that are no part of a VM's disk any more, once what the disk says of itself is durable: all of its
 * headers, since the layer that a merge gave another base need not be the manifest's, above which the VM's process may not have
 * one open yet. What was durable before costs nothing.
 */
export async function dropUnusedLayers(layout: VmLayout, vmId: string): Promise<void> {
  const dir = layout.dir(vmId);
  const chain = await readChain(layout, vmId);
  const unused = (await layerNames(dir)).filter((name) => !chain.includes(name));
  if (unused.length === 0) return;
  await syncAll(chain.slice(0, -1).map((name) => join(dir, name)));
  for (const name of unused) await rm(join(dir, name), { force: true });
  await syncPath(dir);
}
