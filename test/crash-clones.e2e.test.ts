/** The crash matrix of captured memory: snapshots, what is made from them, templates and spares. See {@link CrashSite}. */

import assert from 'node:assert/strict';
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import {
  bootPlan,
  claimReadyPlan,
  claimWaitingPlan,
  clonePlan,
  createPlan,
  mergePlan,
  readyPlan,
  removePlan,
  snapshotPlan,
  waitingPlan,
} from '../src/vm/plans.ts';
import { stepsOf } from '../src/vm/run-steps.ts';
import { eventually } from './support/eventually.ts';
import { traces } from './support/leftovers.ts';
import { CrashSite, type Operation, pointsOf, size } from './support/room/crash-site.ts';
import { inventory } from './support/room/inventory.ts';

describe('crash matrix of clones', () => {
  let site: CrashSite;
  let imageId: string;
  let snapshotId: string;

  const templateShape = () => ({ imageId, cpus: 1, memoryMiB: 256 });
  const running = async () => (await site.call('create', { ...size, snapshotId })).id;
  const assertAllWhole = async (count: number) => {
    const vms = await site.call('list');
    assert.equal(vms.length, count);
    for (const { id } of vms) await site.assertMarked(id);
  };

  const operations: Readonly<Record<string, Operation>> = {
    snapshot: {
      setUp: running,
      act: (id) => site.call('snapshot', id),
      points: [...pointsOf('snapshot', snapshotPlan), 'snapshot.capture.ahead', 'snapshot.capture.rest'],
      settles: 'as before',
      verify: () => assertAllWhole(1),
    },
    'remove a snapshot': {
      setUp: async () => {
        const vmId = await running();
        const { id } = await site.call('snapshot', vmId);
        await site.call('remove', vmId);
        return id;
      },
      act: (id) => site.call('removeSnapshot', id),
      points: 'effects',
      settles: 'either',
    },
    'create from memory': {
      // Larger, so that its disk is grown.
      act: () => site.call('create', { ...size, snapshotId, diskMiB: 4096 }),
      points: pointsOf('create', clonePlan),
      settles: 'as before',
      verify: () => assertAllWhole(1),
    },
    'create from disk': {
      act: () => site.call('create', { ...size, snapshotId, start: false }),
      points: pointsOf('create', createPlan),
      settles: 'as before',
      verify: () => assertAllWhole(1),
    },
    fork: {
      setUp: running,
      act: (id) => site.call('fork', id, 2),
      points: [
        ...pointsOf('snapshot', snapshotPlan),
        // Growing is for disks that are larger than what they were copied from.
        ...stepsOf(clonePlan)
          .filter(({ name }) => name !== 'grow')
          .flatMap(({ name }) => [`create.${name}.before`, `create.${name}.after#2`]),
        'fork.reveal.before',
        'fork.reveal.after',
      ],
      settles: 'either',
      verify: () => assertAllWhole(3),
    },
    template: {
      act: () => site.call('warm', templateShape()),
      points: [
        ...pointsOf('create', bootPlan),
        // Each needs a boot: what is after one step is before the next.
        ...snapshotPlan.map(({ name }) => `snapshot.${name}.after`),
        ...removePlan.map(({ name }) => `remove.${name}.after`),
      ],
      settles: 'either',
    },
  };

  before(async () => {
    site = await CrashSite.create();
    imageId = (await site.call('images'))[0]!.id;
    snapshotId = await site.keepMarked();
  });
  after(() => site?.[Symbol.asyncDispose]());

  it('merge disk layers', async () => {
    await site.clear();
    const id = await running();
    const layers = async () => (await readdir(join(site.home, 'vms', id))).filter((name) => name.startsWith('layer-'));
    const addLayers = async () => {
      while ((await layers()).length < 3) {
        await site.call('shell', id, 'cd /workspace; head -c 1000000 /dev/urandom >> data; sha256sum data > data.sum');
        await site.call('removeSnapshot', (await site.call('snapshot', id)).id);
      }
    };
    const check = 'sync; echo 3 > /proc/sys/vm/drop_caches; cd /workspace; sha256sum -c --quiet data.sum && cat mark';
    await addLayers();
    const asBefore = await inventory(site.home);
    const points = ['merge.stream.copied', 'merge.stream.flushed', ...pointsOf('merge', mergePlan)];
    for (const point of points) {
      await addLayers();
      await site.killedAtStart(point, { 'disk.merge_layers': 1 });
      await site.assertIs(asBefore, 'merge disk layers', point, 'as before');
      if (point !== points.at(-1)) assert.equal(await site.call('shell', id, check), 'kept\n');
    }
    // Nothing was flushed by the guest since: what the VM's process has not written is lost with it.
    assert.equal((await layers()).length, 1);
    const { processes } = await traces(site.home);
    assert.equal(processes.length, 1);
    process.kill(processes[0]!, 'SIGKILL');
    await eventually('its end is noticed', async () => (await site.call('list'))[0]?.state === 'stopped');
    await assertAllWhole(1);
    assert.equal(await site.call('shell', id, check), 'kept\n');
  });

  for (const [name, operation] of Object.entries(operations)) it(name, () => site.test(name, operation));

  for (const { kind, make, claim } of [
    { kind: 'waiting', make: waitingPlan, claim: claimWaitingPlan },
    { kind: 'ready', make: readyPlan, claim: claimReadyPlan },
  ]) {
    const settings = {
      'template.waiting': kind === 'waiting' ? 1 : 0,
      'template.ready': kind === 'ready' ? 1 : 0,
    };

    it(`a ${kind} spare`, async () => {
      // It is there when the rows before this one were run.
      await site.call('warm', templateShape());
      await site.keep();
      await site.clear();
      const asBefore = await inventory(site.home);
      const name = `make a ${kind} spare`;
      // The first steps of both kinds are the same, but for the last of a waiting one.
      const points = pointsOf('create', kind === 'waiting' ? make : make.slice(waitingPlan.length - 1));
      for (const point of points) {
        await site.killedAtStart(point, settings);
        await site.assertIs(asBefore, name, point, 'as before');
      }
    });

    it(`the claim of a ${kind} spare`, async () => {
      const asBefore = await inventory(site.home);
      const standsBy = async () => {
        await site.restart(settings);
        await eventually('a spare stands by', async () => (await site.call('spares')) === 1);
      };
      // Larger, so that its disk is grown, and with egress that no spare has yet.
      const egress = { outbound: true, allow: ['203.0.113.0/24'] };
      const create = () => site.call('create', { ...size, diskMiB: 4096, egress });
      for (const point of pointsOf('create', claim)) {
        await standsBy();
        await site.killedAt(point, create);
        await site.assertIs(asBefore, `claim a ${kind} spare`, point, 'as before');
      }
      await standsBy();
      const { id } = await create();
      assert.equal(await site.call('shell', id, 'echo here'), 'here\n');
      await site.restart();
      assert.deepEqual(
        (await site.call('list')).map((vm) => vm.id),
        [id],
      );
      await site.clear();
    });
  }
});
