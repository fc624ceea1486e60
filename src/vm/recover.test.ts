import assert from 'node:assert/strict';
import { afterEach, beforeEach, describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import type { CreateVm } from './model.ts';
import { Vms } from './service.ts';
import { FakeHost } from './testing/fake-host.ts';

const small: CreateVm = { cpus: 1, memoryMiB: 64, egress: { outbound: false, allow: [] } };
const count = 20;

describe('a daemon that comes after another', () => {
  let host: FakeHost;
  let vms: Vms;
  let ids: readonly string[];

  beforeEach(async () => {
    host = await FakeHost.create();
    vms = await Vms.open(host.dependencies({ maxVms: count + 1 }));
    ids = (await Promise.all(Array.from({ length: count }, () => vms.create(small)))).map(({ id }) => id);
    await vms.close();
    host.observed.length = 0;
  });
  afterEach(async () => {
    await vms.close();
    await host.remove();
  });

  /** Begins to open the service, and resolves when it looks at the first VMs, which do not answer until told to. */
  async function openUntilObserving() {
    const answer = Promise.withResolvers<void>();
    host.waiting.set('observe', answer.promise);
    const opening = Vms.open(host.dependencies({ maxVms: count + 1 }));
    while (host.observed.length === 0) await sleep(1);
    await sleep(50);
    return { opening, answer: answer.resolve };
  }

  it('looks at several VMs at a time, but not at all', async () => {
    const { opening, answer } = await openUntilObserving();
    assert.equal(host.observed.length, 8);
    answer();
    vms = await opening;
    assert.deepEqual(host.observed.toSorted(), ids.toSorted());
    assert.deepEqual(
      vms.list().filter(({ state }) => state !== 'running'),
      [],
    );
  });

  it('notices a VM that ends while it looks at others', async () => {
    const { opening, answer } = await openUntilObserving();
    // The first have been seen alive when this one's answer is still due.
    const last = Promise.withResolvers<void>();
    host.waiting.set('observe', last.promise);
    answer();
    while (host.observed.length <= 8) await sleep(1);
    const [first = ''] = host.observed;
    host.end(first, 'shutdown');
    last.resolve();
    vms = await opening;
    while (vms.get(first).state === 'running' || vms.get(first).state === 'stopping') await sleep(1);
    assert.deepEqual([vms.get(first).state, vms.get(first).reason], ['stopped', 'powered off by its guest']);
  });

  it('does not look for processes of VMs that should have none', async () => {
    vms = await Vms.open(host.dependencies({ maxVms: count + 1 }));
    const [stopped = ''] = ids;
    await vms.stop(stopped, { force: true });
    await vms.close();
    host.observed.length = 0;
    vms = await Vms.open(host.dependencies({ maxVms: count + 1 }));
    assert.equal(host.observed.includes(stopped), false);
    assert.equal(host.observed.length, count - 1);
  });
});
