/** What may be done to a VM in which state. */

import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { openTestApi, smallConfig, type TestApi } from './testing/test-api.ts';

type State = 'CREATED' | 'RUNNING' | 'PAUSED' | 'SHUTDOWN';

/** Calls that bring a new VM into a state. */
const ways: Readonly<Record<State, readonly string[]>> = {
  CREATED: [],
  RUNNING: ['BootVm'],
  PAUSED: ['BootVm', 'PauseVm'],
  SHUTDOWN: ['BootVm', 'ShutdownVm'],
};

/** Which state each call leads to; a call that is not listed is refused. */
const allowed: Readonly<Record<State, Readonly<Record<string, State | 'gone'>>>> = {
  CREATED: { BootVm: 'RUNNING', DeleteVm: 'gone', 'DeleteVm force': 'gone' },
  RUNNING: {
    ShutdownVm: 'SHUTDOWN',
    'ShutdownVm force': 'SHUTDOWN',
    PauseVm: 'PAUSED',
    RebootVm: 'RUNNING',
    'RebootVm force': 'RUNNING',
    'DeleteVm force': 'gone',
  },
  PAUSED: { ResumeVm: 'RUNNING', 'ShutdownVm force': 'SHUTDOWN', 'DeleteVm force': 'gone' },
  SHUTDOWN: { BootVm: 'RUNNING', DeleteVm: 'gone', 'DeleteVm force': 'gone' },
};

const calls = [
  'BootVm',
  'ShutdownVm',
  'ShutdownVm force',
  'PauseVm',
  'ResumeVm',
  'RebootVm',
  'RebootVm force',
  'DeleteVm',
  'DeleteVm force',
];

async function bring(api: TestApi, id: string, state: State): Promise<void> {
  const created = await api.call('CreateVm', { vm_id: id, config: smallConfig });
  assert.deepEqual([created.status, created.json.state], [200, 'VM_STATE_CREATED']);
  for (const call of ways[state]) assert.equal((await api.call(call, { vm_id: id, force: true })).status, 200);
}

/** What GetVmInfo and ListVms say, which must be the same. */
async function stateOf(api: TestApi, id: string): Promise<string> {
  const info = await api.call('GetVmInfo', { vm_id: id });
  const { json: list } = await api.call('ListVms', {});
  if (info.status === 404) return 'gone';
  const item = list.vms.find((vm: { vm_id: string }) => vm.vm_id === id);
  assert.equal(item.state, info.json.state);
  return info.json.state.replace('VM_STATE_', '');
}

describe('a VM that is', () => {
  for (const state of Object.keys(ways) as State[]) {
    it(`${state} takes ${Object.keys(allowed[state]).join(', ')}, and nothing else`, async () => {
      await using api = await openTestApi();
      for (const [number, call] of calls.entries()) {
        const id = `vm-${number}`;
        await bring(api, id, state);
        const [name = '', force] = call.split(' ');
        const reply = await api.call(name, { vm_id: id, force: force !== undefined });
        const leadsTo = allowed[state][call];
        const after = await stateOf(api, id);
        if (leadsTo === undefined) {
          assert.deepEqual([call, reply.status, reply.json.code], [call, 412, 'failed_precondition']);
          assert.equal(after, state);
        } else {
          const shown = leadsTo === 'gone' ? {} : { state: `VM_STATE_${leadsTo}` };
          assert.deepEqual([call, reply.status, reply.json], [call, 200, { success: true, ...shown }]);
          assert.equal(after, leadsTo);
        }
        if (after !== 'gone') await api.call('DeleteVm', { vm_id: id, force: true });
      }
    });
  }
});

describe('a VM that is gone, and one that never was', () => {
  it('are not found by any call', async () => {
    await using api = await openTestApi();
    await bring(api, 'vm', 'CREATED');
    await api.call('DeleteVm', { vm_id: 'vm' });
    for (const call of ['GetVmInfo', ...calls.map((name) => name.replace(' force', ''))]) {
      for (const id of ['vm', 'never', '../vm', '__proto__']) {
        const { status, json } = await api.call(call, { vm_id: id });
        assert.deepEqual([call, status, json.code], [call, 404, 'not_found']);
      }
      assert.equal((await api.call(call, {})).json.message, 'vm_id is required');
    }
  });
});

describe('the rules of the load script', () => {
  it('let ResumeVm start a VM that is shut down, and DeleteVm take a running one', async () => {
    await using api = await openTestApi({ settings: { loadScriptRules: true } });
    await bring(api, 'vm', 'SHUTDOWN');
    const resumed = await api.call('ResumeVm', { vm_id: 'vm' });
    assert.deepEqual(resumed.json, { success: true, state: 'VM_STATE_RUNNING' });
    assert.equal((await api.call('DeleteVm', { vm_id: 'vm' })).status, 200);
  });
});

describe('what happens beside the API', () => {
  it('is seen: a VM whose process ended is shut down', async () => {
    await using api = await openTestApi();
    await bring(api, 'vm', 'RUNNING');
    api.host.end('vm', 'shutdown');
    // The removal waits until the end has been dealt with, and needs no force then.
    while ((await stateOf(api, 'vm')) === 'RUNNING') await new Promise(setImmediate);
    assert.equal(await stateOf(api, 'vm'), 'SHUTDOWN');
  });
});

describe('limits', () => {
  it('are told as exhausted resources', async () => {
    await using api = await openTestApi({ quotas: { maxVms: 1 } });
    await bring(api, 'vm', 'CREATED');
    const { status, json } = await api.call('CreateVm', { config: smallConfig });
    assert.deepEqual([status, json.code, json.details[0].reason], [429, 'resource_exhausted', 'QUOTA_EXCEEDED']);
  });

  for (const timeout of [-1, 86_401]) {
    it(`refuse a timeout of ${timeout} s`, async () => {
      await using api = await openTestApi();
      const { status } = await api.call('ShutdownVm', { vm_id: 'vm', timeout_seconds: timeout });
      assert.equal(status, 400);
    });
  }
});
