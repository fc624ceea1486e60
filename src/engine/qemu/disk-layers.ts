import { randomBytes } from 'node:crypto';
import type { EngineLayer } from '../engine.ts';
import { blockNodes } from './block-nodes.ts';
import { endMerge } from './merge-layers.ts';
import { blockNode } from './qemu-args.ts';
import { type QmpClient, QmpError } from './qemu-qmp.ts';

/** Opening an image on a busy disk takes its time. */
const timeoutMs = 30_000;

/** A layer that is open beside a running VM's disk; closed again when it is let go without having been attached. */
export interface OpenLayer extends AsyncDisposable {
  /** Puts it over the disk: from then on the guest writes there, and the layer below does not change. */
  attach(): Promise<void>;
}

/** Opens an empty qcow2 made for the purpose, to become a disk's newest layer. */
export async function openLayer(qmp: QmpClient, { disk, path, mayHaveWrites }: EngineLayer): Promise<OpenLayer> {
  await endMerge(qmp, disk);
  const [newest] = await blockNodes(qmp, disk);
  const overlay = `layer-${randomBytes(6).toString('hex')}`;
  const definition = blockNode({ name: disk, path, format: 'qcow2', readOnly: false }, overlay);
  // The layer below is attached by the snapshot command; what the file's header names must not be opened a second time.
  await qmp.execute('blockdev-add', { ...definition, backing: null }, timeoutMs);
  let attached: 'no' | 'perhaps' | 'yes' = 'no';
  return {
    async attach() {
      attached = 'perhaps';
      mayHaveWrites(true);
      try {
        await qmp.execute('blockdev-snapshot', { node: newest.name, overlay }, timeoutMs);
      } catch (error) {
        if (!(error instanceof QmpError)) throw error;
        attached = 'no';
        mayHaveWrites(false);
        throw error;
      }
      attached = 'yes';
    },
    async [Symbol.asyncDispose]() {
      if (attached === 'yes') return;
      try {
        await qmp.execute('blockdev-del', { 'node-name': overlay }, timeoutMs);
      } catch (error) {
        // In use: only the answer to that was lost.
        if (attached === 'no' || !(error instanceof QmpError)) throw error;
      }
    },
  };
}

/** Makes the disk of a live VM larger: its newest layer, and what the guest is told. */
export async function growDisk(qmp: QmpClient, disk: string, bytes: number): Promise<void> {
  const [newest] = await blockNodes(qmp, disk);
  await qmp.execute('block_resize', { 'node-name': newest.name, size: bytes }, timeoutMs);
}
