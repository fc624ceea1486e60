import assert from 'node:assert/strict';
import { after, describe, it } from 'node:test';
import { createPlan, removePlan, snapshotPlan, startPlan, stopPlan } from '../src/vm/plans.ts';
import { startDaemon, type TestDaemon } from './support/daemon.ts';
import { noTraces, type Traces, traces } from './support/leftovers.ts';

/**
 * The daemon is killed with SIGKILL before and after every step of every operation, started again, and the host is looked
 * at: the VM is whole or gone, and nothing else is left. "Whole" is proved by a command that runs in it and finds the
 * file that was written when the VM was made.
 */

const size = { cpu: 1, memMb: 256, allowIps: [], outboundInternet: false };
const results: { readonly point: string; readonly vm: string; readonly left: string }[] = [];

interface Subject {
  readonly id: string;
  readonly state: string;
}

async function create(daemon: TestDaemon): Promise<Subject> {
  const response = await daemon.call('POST', '/v1/vms', size);
  assert.equal(response.status, 201, await response.clone().text());
  const vm = (await response.json()) as Subject;
  assert.deepEqual(await exec(daemon, vm.id, 'echo kept > /workspace/mark; sync'), { exitCode: 0, stdout: '' });
  return vm;
}

async function exec(daemon: TestDaemon, id: string, cmd: string): Promise<{ exitCode: number; stdout: string }> {
  const response = await daemon.call('POST', `/v1/vms/${id}/exec`, { cmd });
  assert.equal(response.status, 200, await response.clone().text());
  const { exitCode, stdout } = (await response.json()) as { exitCode: number; stdout: string };
  return { exitCode, stdout };
}

async function list(daemon: TestDaemon): Promise<Subject[]> {
  return (await daemon.call('GET', '/v1/vms')).json() as Promise<Subject[]>;
}

async function ok(response: Promise<Response>): Promise<void> {
  const { status } = await response;
  assert.ok(status >= 200 && status < 300, `status ${status}`);
}

/** Starts the VM if it is down, and proves it whole. */
async function assertWhole(daemon: TestDaemon, id: string): Promise<void> {
  const [vm] = (await list(daemon)).filter((candidate) => candidate.id === id);
  assert.ok(vm, 'the VM is gone');
  if (vm.state === 'STOPPED') await ok(daemon.call('POST', `/v1/vms/${id}/start`));
  assert.deepEqual(await exec(daemon, id, 'cat /workspace/mark'), { exitCode: 0, stdout: 'kept\n' });
}

/** Counts what a VM that is whole has on the host, so that too much shows as well as too little. */
function assertOnly(
  found: Traces,
  expected: { readonly vms: number; readonly running: number; readonly snapshots?: number },
): void {
  const { vms, running, snapshots = 0 } = expected;
  assert.equal(found.processes.length, running, `processes: ${found.processes}`);
  assert.equal(found.logWriters.length, running, `log writers: ${found.logWriters}`);
  assert.equal(found.cgroups.length, running, `cgroups: ${found.cgroups}`);
  assert.equal(found.taps.length, running, `taps: ${found.taps}`);
  assert.equal(found.rules.length, running, `rules: ${found.rules}`);
  assert.equal(found.directories.length, vms + snapshots, `directories: ${found.directories}`);
  assert.equal(found.rows.length, vms + snapshots, `rows: ${found.rows}`);
}

/** Runs `request` on a daemon that dies at `point`, and returns the daemon that comes after. */
async function dieAt(
  daemon: TestDaemon,
  point: string,
  request: (armed: TestDaemon) => Promise<Response>,
): Promise<TestDaemon> {
  await daemon.kill();
  const armed = await daemon.restart({ env: { BERTH_FAILPOINT: point } });
  await assert.rejects(request(armed), 'the call outlived the daemon');
  assert.equal(await armed.ended, null, 'the daemon was not killed');
  return armed.restart({ env: {} });
}

function points(operation: string, plan: readonly { readonly name: string }[]): string[] {
  return plan.flatMap((step) => [`${operation}.${step.name}.before`, `${operation}.${step.name}.after`]);
}

describe('crash matrix', () => {
  let daemon: TestDaemon;
  let subject: Subject;

  after(async () => {
    console.log(`\n${'killed at'.padEnd(28)}${'the VM is'.padEnd(12)}left over`);
    for (const { point, vm, left } of results) console.log(`${point.padEnd(28)}${vm.padEnd(12)}${left}`);
    await daemon?.stop();
  });

  it('starts', async () => {
    daemon = await startDaemon();
  });

  for (const point of points('create', [...createPlan, ...startPlan])) {
    it(point, async () => {
      daemon = await dieAt(daemon, point, (armed) => armed.call('POST', '/v1/vms', size));
      assert.deepEqual(await list(daemon), []);
      assert.deepEqual(await traces(daemon.home), noTraces);
      results.push({ point, vm: 'gone', left: 'nothing' });
    });
  }

  for (const point of points('start', startPlan)) {
    it(point, async () => {
      if (!subject) {
        subject = await create(daemon);
        await ok(daemon.call('POST', `/v1/vms/${subject.id}/stop`));
      }
      daemon = await dieAt(daemon, point, (armed) => armed.call('POST', `/v1/vms/${subject.id}/start`));
      assert.equal((await list(daemon))[0]?.state, 'STOPPED');
      assertOnly(await traces(daemon.home), { vms: 1, running: 0 });
      results.push({ point, vm: 'stopped', left: 'nothing' });
    });
  }

  it('leaves a VM whole whose starts were cut off', async () => {
    await assertWhole(daemon, subject.id);
  });

  for (const point of [...points('snapshot', snapshotPlan), 'snapshot.capture.rest']) {
    it(point, async () => {
      daemon = await dieAt(daemon, point, (armed) => armed.call('POST', `/v1/vms/${subject.id}/snapshots`));
      assert.deepEqual(await (await daemon.call('GET', '/v1/snapshots')).json(), []);
      await assertWhole(daemon, subject.id);
      assertOnly(await traces(daemon.home), { vms: 1, running: 1 });
      results.push({ point, vm: 'running', left: 'nothing' });
    });
  }

  it('leaves a VM whole, snapshots and restarts included, whose snapshots were cut off', async () => {
    await ok(daemon.call('POST', `/v1/vms/${subject.id}/snapshots`));
    await ok(daemon.call('POST', `/v1/vms/${subject.id}/stop`));
    await assertWhole(daemon, subject.id);
    assertOnly(await traces(daemon.home), { vms: 1, running: 1, snapshots: 1 });
  });

  for (const point of points('stop', stopPlan)) {
    it(point, async () => {
      await assertWhole(daemon, subject.id);
      daemon = await dieAt(daemon, point, (armed) => armed.call('POST', `/v1/vms/${subject.id}/stop`));
      assert.equal((await list(daemon))[0]?.state, 'STOPPED');
      assertOnly(await traces(daemon.home), { vms: 1, running: 0, snapshots: 1 });
      results.push({ point, vm: 'stopped', left: 'nothing' });
    });
  }

  for (const point of points('remove', removePlan)) {
    it(point, async () => {
      const [vm] = await list(daemon);
      if (vm) await assertWhole(daemon, vm.id);
      const doomed = vm ?? (await create(daemon));
      daemon = await dieAt(daemon, point, (armed) => armed.call('DELETE', `/v1/vms/${doomed.id}`));
      assert.deepEqual(await list(daemon), []);
      assertOnly(await traces(daemon.home), { vms: 0, running: 0, snapshots: 1 });
      results.push({ point, vm: 'gone', left: 'nothing' });
    });
  }
});
