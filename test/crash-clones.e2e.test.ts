/**
 * VMs made from a snapshot, killed at every step: the process that runs VMs is killed with SIGKILL and started again, and
 * the whole host (rows, files with their rights, processes, taps, rules, control groups: `inventory`) must look as it did
 * before. A further operation is one more entry in `operations`.
 */

import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { after, before, describe, it } from 'node:test';
import { clonePlan, createPlan, type Plan } from '../src/vm/plans.ts';
import { stepsOf } from '../src/vm/run-steps.ts';
import { inventory } from './support/room/inventory.ts';
import { Room, RoomDied } from './support/room/room.ts';

interface Operation {
  readonly act: () => Promise<unknown>;
  readonly points: readonly string[];
}

const size = { cpus: 1, memoryMiB: 256, egress: { outbound: false, allow: [] } };

function steps(kind: string, plan: Plan): readonly string[] {
  return stepsOf(plan).flatMap(({ name }) => [`${kind}.${name}.before`, `${kind}.${name}.after`]);
}

describe('crash matrix of clones', () => {
  let home: string;
  let room: Room;
  /** Of a VM with a file by which it is known. */
  let snapshotId: string;
  const results: { readonly operation: string; readonly point: string }[] = [];

  const operations: Readonly<Record<string, Operation>> = {
    'create from memory': {
      // Larger, so that its disk is grown.
      act: () => room.call('create', { ...size, snapshotId, diskMiB: 4096 }),
      points: steps('create', clonePlan),
    },
    'create from disk': {
      act: () => room.call('create', { ...size, snapshotId, start: false }),
      points: steps('create', createPlan),
    },
  };

  before(async () => {
    home = await mkdtemp('/tmp/berth-test-');
    room = await open();
    const { id } = await room.call('create', size);
    await room.call('shell', id, 'echo kept > /workspace/mark');
    snapshotId = (await room.call('snapshot', id)).id;
    await room.call('remove', id);
  });

  after(async () => {
    console.log(`\n${'operation'.padEnd(20)}${'killed at'.padEnd(26)}the host is`);
    for (const { operation, point } of results) console.log(`${operation.padEnd(20)}${point.padEnd(26)}as before`);
    if (room) {
      await clear();
      await room.kill();
    }
    await rm(home, { recursive: true, force: true });
  });

  for (const [name, { act, points }] of Object.entries(operations)) {
    it(name, async () => {
      await clear();
      const asBefore = await inventory(home);
      for (const point of points) {
        await killedAt(point, act);
        assert.deepEqual(await inventory(home), asBefore, `${name}, killed at ${point}`);
        results.push({ operation: name, point });
      }
      await act();
      const [vm] = await room.call('list');
      assert.ok(vm, 'there is no VM');
      if (vm.state !== 'running') await room.call('start', vm.id);
      assert.equal(await room.call('shell', vm.id, 'cat /workspace/mark'), 'kept\n');
    });
  }

  function open(): Promise<Room> {
    // What goes on in the background is for other tests.
    return Room.open(home, { 'template.build': false, 'template.waiting': 0 });
  }

  /** Has the room die in the middle of `act`, and opens the next. */
  async function killedAt(point: string, act: () => Promise<unknown>): Promise<void> {
    await room.call('dieAt', point);
    await assert.rejects(act(), RoomDied, `nothing came to ${point}`);
    assert.equal(await room.ended, 'SIGKILL', room.output());
    room = await open();
  }

  async function clear(): Promise<void> {
    for (const { id } of await room.call('list')) await room.call('remove', id);
  }
});
