import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { BootSlot } from './boot-slot.ts';

const forever = 2 ** 31;

/** Watches a VM that uses `cpuMicros(n)` at its nth look; resolves with the number of looks until it gave its place on. */
async function looksUntilLeft(cpuMicros: (look: number) => number | null, maxMs: number): Promise<number> {
  let looks = 0;
  const left = Promise.withResolvers<void>();
  const engine = {
    async usage() {
      const used = cpuMicros(++looks);
      return used === null ? null : { pid: 1, cpuMicros: used, residentBytes: 0, disks: new Map() };
    },
  };
  using _ = new BootSlot({ engine, id: 'vm', dir: '/vm', maxMs, leave: left.resolve, sampleMs: 5 });
  await left.promise;
  return looks;
}

describe('the place of a VM that boots', () => {
  it('is given on when the VM idles', async () => {
    assert.equal(await looksUntilLeft((look) => Math.min(look, 4) * 1e6, forever), 6);
  });

  it('is kept while the VM has no process, and while it uses the processor', async () => {
    const busy = (look: number) => look * 1e6;
    assert.equal(await looksUntilLeft((look) => (look <= 5 ? null : look <= 20 ? busy(look) : busy(20)), forever), 22);
  });

  it('is given on after its time, however busy the VM is', async () => {
    await looksUntilLeft((look) => look * 1e6, 20);
  });

  it('is not watched any more once the boot is over', async () => {
    let looks = 0;
    const engine = {
      async usage() {
        looks++;
        return null;
      },
    };
    const slot = new BootSlot({ engine, id: 'vm', dir: '/vm', maxMs: forever, leave: () => {}, sampleMs: 1 });
    slot[Symbol.dispose]();
    await sleep(20);
    assert.equal(looks, 0);
  });
});
