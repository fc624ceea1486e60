import { join } from 'node:path';
import { BerthError } from '../common/errors.ts';
import { grow, info } from '../disk/qcow2.ts';
import type { VmLayout } from './layout.ts';
import { readManifest } from './manifest.ts';
import type { Vm } from './model.ts';

/**
 * Makes a stopped VM's disk as large as its record says; the guest's file system follows at the next boot. A VM that was
 * never started may have no disk yet.
 */
export async function growDisk(vm: Vm, layout: VmLayout): Promise<void> {
  const manifest = await readManifest(layout.manifest(vm.id));
  if (!manifest && vm.state === 'created') return;
  if (!manifest) throw new BerthError('internal');
  const path = join(layout.dir(vm.id), manifest.layer);
  const wanted = vm.diskMiB * 1024 * 1024;
  if ((await info(path, 'qcow2')).virtualSizeBytes < wanted) await grow(path, 'qcow2', wanted);
}
