import { randomBytes } from 'node:crypto';
import { blockNode, deviceId } from './qemu-args.ts';
import { isObject, type QmpClient } from './qemu-qmp.ts';

/** Opening an image on a busy disk takes its time. */
const timeoutMs = 30_000;

/** A layer that is open beside a running VM's disk; closed again when it is let go without having been attached. */
export interface OpenLayer extends AsyncDisposable {
  /** Puts it over the disk: from then on the guest writes there, and the layer below does not change. */
  attach(): Promise<void>;
}

/** Opens `path`, an empty qcow2 made for the purpose, to become a disk's newest layer. */
export async function openLayer(qmp: QmpClient, disk: string, path: string): Promise<OpenLayer> {
  const node = await currentNode(qmp, disk);
  const overlay = `layer-${randomBytes(6).toString('hex')}`;
  const definition = blockNode({ name: disk, path, format: 'qcow2', readOnly: false }, overlay);
  // The layer below is attached by the snapshot command; what the file's header names must not be opened a second time.
  await qmp.execute('blockdev-add', { ...definition, backing: null }, timeoutMs);
  let isAttached = false;
  return {
    async attach() {
      await qmp.execute('blockdev-snapshot', { node, overlay }, timeoutMs);
      isAttached = true;
    },
    async [Symbol.asyncDispose]() {
      if (!isAttached) await qmp.execute('blockdev-del', { 'node-name': overlay }, timeoutMs);
    },
  };
}

/** Makes the disk of a live VM larger: its newest layer, and what the guest is told. */
export async function growDisk(qmp: QmpClient, disk: string, bytes: number): Promise<void> {
  await qmp.execute('block_resize', { 'node-name': await currentNode(qmp, disk), size: bytes }, timeoutMs);
}

/** Name of the block node the guest's device stands on now. */
async function currentNode(qmp: QmpClient, disk: string): Promise<string> {
  const devices = await qmp.execute('query-block');
  const id = deviceId(disk);
  for (const device of Array.isArray(devices) ? devices : []) {
    // On PCI the block device is a nameless part of the device that has the id.
    if (!isObject(device) || (device.qdev !== id && device.qdev !== `/machine/peripheral/${id}/virtio-backend`))
      continue;
    const inserted = device.inserted;
    if (isObject(inserted) && typeof inserted['node-name'] === 'string') return inserted['node-name'];
  }
  throw new Error(`no disk ${disk}`);
}
