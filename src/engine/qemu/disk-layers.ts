import { randomBytes } from 'node:crypto';
import { blockNodes } from './block-nodes.ts';
import { endMerge } from './merge-layers.ts';
import { blockNode } from './qemu-args.ts';
import type { QmpClient } from './qemu-qmp.ts';

/** Opening an image on a busy disk takes its time. */
const timeoutMs = 30_000;

/** A layer that is open beside a running VM's disk; closed again when it is let go without having been attached. */
export interface OpenLayer extends AsyncDisposable {
  /** Puts it over the disk: from then on the guest writes there, and the layer below does not change. */
  attach(): Promise<void>;
}

/** Opens `path`, an empty qcow2 made for the purpose, to become a disk's newest layer. */
export async function openLayer(qmp: QmpClient, disk: string, path: string): Promise<OpenLayer> {
  await endMerge(qmp, disk);
  const [newest] = await blockNodes(qmp, disk);
  const overlay = `layer-${randomBytes(6).toString('hex')}`;
  const definition = blockNode({ name: disk, path, format: 'qcow2', readOnly: false }, overlay);
  // The layer below is attached by the snapshot command; what the file's header names must not be opened a second time.
  await qmp.execute('blockdev-add', { ...definition, backing: null }, timeoutMs);
  let isAttached = false;
  return {
    async attach() {
      await qmp.execute('blockdev-snapshot', { node: newest.name, overlay }, timeoutMs);
      isAttached = true;
    },
    async [Symbol.asyncDispose]() {
      if (!isAttached) await qmp.execute('blockdev-del', { 'node-name': overlay }, timeoutMs);
    },
  };
}

/** Makes the disk of a live VM larger: its newest layer, and what the guest is told. */
export async function growDisk(qmp: QmpClient, disk: string, bytes: number): Promise<void> {
  const [newest] = await blockNodes(qmp, disk);
  await qmp.execute('block_resize', { 'node-name': newest.name, size: bytes }, timeoutMs);
}
