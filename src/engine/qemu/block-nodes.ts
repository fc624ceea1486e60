import { deviceId } from './qemu-args.ts';
import { isObject, type QmpClient } from './qemu-qmp.ts';

/** No disk has as many files. */
const maxDepth = 256;

/** A layer of a disk as QEMU has it open. */
export interface BlockNode {
  readonly name: string;
  /** Name of the node that reads its file; null when there is none. */
  readonly file: string | null;
}

/** The block nodes that a disk is made of, newest first: the guest's device stands on the first. */
export async function blockNodes(
  qmp: QmpClient,
  disk: string,
): Promise<readonly [newest: BlockNode, ...below: BlockNode[]]> {
  const devices = await qmp.execute('query-blockstats');
  const id = deviceId(disk);
  const nodes: BlockNode[] = [];
  for (const device of Array.isArray(devices) ? devices : []) {
    // On PCI the block device is a nameless part of the device that has the id.
    if (!isObject(device) || (device.qdev !== id && device.qdev !== `/machine/peripheral/${id}/virtio-backend`))
      continue;
    for (let node: unknown = device; isObject(node) && nodes.length < maxDepth; node = node.backing)
      nodes.push({ name: nameOf(node) ?? '', file: nameOf(node.parent) });
  }
  const [newest, ...below] = nodes;
  if (newest === undefined) throw new Error(`no disk ${disk}`);
  return [newest, ...below];
}

function nameOf(node: unknown): string | null {
  return isObject(node) && typeof node['node-name'] === 'string' ? node['node-name'] : null;
}
