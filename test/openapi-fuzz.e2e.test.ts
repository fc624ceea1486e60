/** The fuzz of every operation against a daemon with real VMs: fewer requests, and never more than three VMs. */

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { fuzzOperations } from '../src/api/run-dat-sheesh/testing/openapi-fuzz.ts';
import { createVm, expectStatus, smallVm, type WireVm } from './support/api.ts';
import { startDaemon, type TestDaemon } from './support/daemon.ts';

const runs = 40;
/** Programs take long to start; a password hash does on purpose. */
const slow = new Map([
  ['runTs', 16],
  ['runJs', 16],
  ['login', 3],
]);

/** Operations on VMs and their guests, and the status of their success, which the fuzz must have met to mean something. */
const reached = [
  ['createVm', 201],
  ['getVm', 200],
  ['deleteVm', 204],
  ['startVm', 204],
  ['stopVm', 204],
  ['exec', 200],
  ['runTs', 200],
  ['runJs', 200],
  ['createSnapshot', 201],
] as const;

let daemon: TestDaemon;

before(async () => {
  daemon = await startDaemon({
    env: {
      BERTH_QUOTA_MAX_VMS: '3',
      BERTH_QUOTA_MAX_SNAPSHOTS: '2',
      BERTH_QUOTA_TOTAL_MEMORY_MIB: String(3 * smallVm.memMb),
      BERTH_RUN_DAT_SHEESH_MAX_EXEC_TIMEOUT_MS: '10000',
      BERTH_RUN_DAT_SHEESH_MAX_RUN_TIMEOUT_MS: '10000',
      BERTH_RUN_DAT_SHEESH_ADMIN_EMAIL: 'admin@example.org',
      BERTH_RUN_DAT_SHEESH_ADMIN_PASSWORD: 'correct horse battery staple',
    },
  });
});
after(() => daemon.stop());

/** A running VM, a stopped one, and an image without files; what else an operation made goes. */
async function prepare(): Promise<readonly string[]> {
  const vms = await expectStatus<WireVm[]>(daemon, 200, 'GET', '/v1/vms');
  const [running] = vms.filter((vm) => vm.state === 'RUNNING');
  const [stopped] = vms.filter((vm) => vm.state === 'STOPPED');
  const kept = [running?.id, stopped?.id];
  for (const { id } of vms) if (!kept.includes(id)) await expectStatus(daemon, 204, 'DELETE', `/v1/vms/${id}`);
  const image = await expectStatus<{ id: string }>(daemon, 201, 'POST', '/v1/images', { name: 'n', description: 'd' });
  const runningId = running?.id ?? (await createVm(daemon)).id;
  const stoppedId = stopped?.id ?? (await createStopped());
  // Most calls are for the VM that can answer them.
  return [runningId, runningId, runningId, stoppedId, image.id];
}

async function createStopped(): Promise<string> {
  const { id } = await createVm(daemon);
  await expectStatus(daemon, 204, 'POST', `/v1/vms/${id}/stop`);
  return id;
}

test(`every operation answers as documented by real VMs (${runs} requests at the most)`, async (context) => {
  const answered = await fuzzOperations(context, {
    async send(method, url, body, headers) {
      const response = await fetch(daemon.url + url, {
        method,
        headers: { 'x-api-key': daemon.apiKey, ...headers },
        ...(body === undefined ? {} : { body }),
      });
      return { status: response.status, text: await response.text() };
    },
    prepare,
    runsOf: (operationId) => slow.get(operationId) ?? runs,
    seed: 20_260_102,
    shrink: false,
  });
  const missed = reached.filter(([operation, status]) => !answered.get(operation)?.has(status));
  assert.deepEqual(missed, []);
});
