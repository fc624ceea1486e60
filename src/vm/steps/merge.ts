import { join } from 'node:path';
import type { OperationContext } from '../context.ts';
import { dropUnusedLayers, readChain } from '../disk-chain.ts';
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
    const chain = await readChain(deps.layout, vm.id);
    const base = String(detail.base);
    await deps.engine.mergeLayers(vm.id, deps.layout.run(vm.id), {
      disk: rootDiskName,
      above: chain.slice(0, chain.indexOf(base)).map((name) => join(dir, name)),
      base: join(dir, base),
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
