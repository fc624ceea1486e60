import assert from 'node:assert/strict';
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { BerthError } from '../common/errors.ts';
import { until } from '../common/testing/until.ts';
import type { VmState } from './model.ts';
import { Vms } from './service.ts';
import { small } from './testing/fake-fixtures.ts';
import { type FakeCall, FakeHost } from './testing/fake-host.ts';

const maxVms = 6;

const actions = [
  'create',
  'create stopped',
  'remove',
  'stop',
  'start',
  'pause',
  'resume',
  'fork',
  'snapshot',
  'remove snapshot',
  'restore',
  'warm',
] as const;
const breakable: readonly FakeCall[] = [
  'start',
  'prepare',
  'restore',
  'capture',
  'attach',
  'ready',
  'become',
  'growDisk',
  'mergeLayers',
];

/** What is asked for at one time; `which` chooses a VM among those there are. */
const request = fc.record({ action: fc.constantFrom(...actions), which: fc.nat(maxVms) });
/** A call to the host that fails, by its number. */
const failure = fc.option(fc.record({ at: fc.constantFrom(...breakable), after: fc.nat(3) }), { nil: undefined });
const round = fc.record({ requests: fc.array(request, { minLength: 1, maxLength: 8 }), failure });

describe('whatever is asked for at one time, and whatever of it fails', () => {
  it('store, records, files, processes and what is counted agree afterwards', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(round, { minLength: 1, maxLength: 3 }), async (rounds) => {
        const host = await FakeHost.create();
        const settings = {
          spares: { waiting: 1, ready: 1 },
          templates: { build: false, budgetBytes: 0 },
          layers: { merged: 1, quietMs: 1 },
        };
        const vms = await Vms.open(host.dependencies({ maxVms }, settings));
        try {
          for (const { requests, failure } of rounds) {
            let left = failure?.after ?? 0;
            host.onCall = (name) => {
              if (name === failure?.at && left-- === 0) throw new BerthError('boot_failed', { reason: 'it is a test' });
            };
            const results = await Promise.allSettled(requests.map(({ action, which }) => act(vms, action, which)));
            for (const result of results) if (result.status === 'rejected') assertForClients(result.reason);
          }
          host.onCall = () => {};
          await assertRoom(vms);
          await vms.close();
          await assertAgree(host, vms);
        } finally {
          await vms.close();
          await host.remove();
        }
      }),
      { numRuns: 40 },
    );
  });

  async function act(vms: Vms, action: (typeof actions)[number], which: number): Promise<unknown> {
    if (action === 'create') return vms.create(which % 2 === 0 ? small : { ...small, diskMiB: 2 });
    if (action === 'create stopped') return vms.create({ ...small, start: false });
    if (action === 'warm') return vms.warm({ imageId: 'img-1', cpus: 1, memoryMiB: 64 });
    const snapshotId = vms.snapshots().at(which % 2)?.id ?? 'none';
    if (action === 'remove snapshot') return vms.removeSnapshot(snapshotId);
    if (action === 'restore') return vms.create({ ...small, snapshotId });
    const id = vms.list()[which]?.id ?? 'nobody';
    switch (action) {
      case 'remove':
        return vms.remove(id);
      case 'stop':
        return vms.stop(id, { force: true });
      case 'start':
        return vms.start(id);
      case 'pause':
        return vms.pause(id);
      case 'resume':
        return vms.resume(id);
      case 'fork':
        return vms.fork(id, 2);
      case 'snapshot':
        return vms.snapshot(id);
    }
  }

  /** Refusals and failures are told in words for clients: anything else is a mistake of ours. */
  function assertForClients(error: unknown): void {
    if (!(error instanceof BerthError) || error.code === 'internal') throw error;
  }

  /** Exactly as many VMs can be made as there is room for beside those that can be seen. */
  async function assertRoom(vms: Vms): Promise<void> {
    while (vms.list().length < maxVms) await vms.create({ ...small, start: false });
    await assert.rejects(vms.create({ ...small, start: false }), { code: 'quota_exceeded' });
  }

  async function assertAgree(host: FakeHost, vms: Vms): Promise<void> {
    await until('what nobody sees is gone', () => host.db.all('SELECT 1 FROM vms WHERE hidden = 1').length === 0);
    const seen = vms
      .list()
      .map(({ id, state }) => ({ id, state }))
      .sort((a, b) => a.id.localeCompare(b.id));
    const rows = host.db.all<{ id: string; state: string }>('SELECT id, state FROM vms ORDER BY id');
    assert.deepEqual(
      rows.map(({ id, state }) => ({ id, state })),
      seen,
    );
    assert.deepEqual(host.db.all('SELECT * FROM operations'), []);
    const withState = (...states: VmState[]) => seen.filter(({ state }) => states.includes(state)).map(({ id }) => id);
    assert.deepEqual([...host.processes.keys()].sort(), withState('running', 'paused').sort());
    const withFiles = (await readdir(join(host.home, 'vms'))).sort();
    assert.deepEqual(withFiles, withState('running', 'paused', 'stopped').sort());
    const snapshots = host.db.all<{ id: string }>('SELECT id FROM snapshots').map(({ id }) => id);
    assert.deepEqual((await readdir(join(host.home, 'snapshots'))).sort(), snapshots.sort());
  }
});
