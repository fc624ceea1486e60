import { join } from 'node:path';
import type { OperationContext } from '../context.ts';
import { dropUnusedLayers } from '../disk-chain.ts';
import { rootDiskName } from '../layout.ts';
import type { Step } from '../run-steps.ts';

/**
 * The newest layer takes in those between it and `base`. There is nothing to undo: the disk's content is the same before,
 * after and in between, whatever part of it was copied.
 */
export const streamStep: Step<OperationContext> = {
  name: 'stream',
  async run({ deps, vm, detail, hurry }) {
    const dir = deps.layout.dir(vm.id);
    await deps.engine.mergeLayers(vm.id, deps.layout.run(vm.id), {
      disk: rootDiskName,
      newest: join(dir, String(detail.newest)),
      base: join(dir, String(detail.base)),
      bytesPerSecond: typeof detail.bytesPerSecond === 'number' ? detail.bytesPerSecond : null,
      signal: hurry,
    });
  },
};

/** Gives up the VM's links to what was merged; snapshots that need the files have links of their own. */
export const dropStep: Step<OperationContext> = {
  name: 'drop',
  run: ({ deps, vm }) => dropUnusedLayers(deps.layout, vm.id),
};
