/** What may be done to a VM in which state. */

import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { gzipSync } from 'node:zlib';
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
    while ((await api.call('GetVmInfo', { vm_id: 'vm' })).json.state === 'VM_STATE_RUNNING')
      await new Promise(setImmediate);
    assert.equal(await stateOf(api, 'vm'), 'SHUTDOWN');
  });
});

/** A call by gRPC-Web with a message in JSON; returns the reply's bytes as text, with the trailers. */
async function grpcWebJson(api: TestApi, name: string, message: object, packed: boolean): Promise<string> {
  const text = JSON.stringify(message);
  const data = packed ? gzipSync(text) : Buffer.from(text);
  const head = Buffer.from([packed ? 1 : 0, 0, 0, 0, 0]);
  head.writeUInt32BE(data.length, 1);
  const response = await fetch(`${api.url}/vmprovisioner.v1.VmService/${name}`, {
    method: 'POST',
    headers: {
      'content-type': 'application/grpc-web+json',
      authorization: 'Bearer dev_customer_a',
      ...(packed ? { 'grpc-encoding': 'gzip' } : {}),
    },
    body: Buffer.concat([head, data]),
  });
  const trailers = [...response.headers].map(([key, value]) => `${key}: ${value}`).join('\n');
  return `${await response.text()}\n${trailers}`;
}

describe('what clients may ask for', () => {
  it('is not repeated at any length', async () => {
    await using api = await openTestApi();
    const vmId = 'x'.repeat(100_000);
    for (const [name, body, code] of [
      ['GetVmInfo', { vm_id: vmId }, 'not_found'],
      ['CreateVm', { vm_id: vmId, config: smallConfig }, 'invalid_argument'],
    ] as const) {
      const { json } = await api.call(name, body);
      assert.equal(json.code, code);
      assert.ok(JSON.stringify(json).length < 4096);
    }
  });

  it('are states there are', async () => {
    await using api = await openTestApi();
    for (const state of ['VM_STATE_ODD', 99]) {
      for (const name of ['state_filter', 'stateFilter']) {
        const { status, json } = await api.call('ListVms', { [name]: [state] });
        assert.deepEqual([status, json.code], [400, 'invalid_argument']);
      }
    }
    assert.equal((await api.call('ListVms', { state_filter: ['VM_STATE_RUNNING', 1] })).status, 200);
    for (const packed of [false, true]) {
      for (const [names, status] of [
        [['VM_STATE_RUNNING'], '0'],
        [['VM_STATE_RUNNING', 'VM_STATE_GONE'], '3'],
      ] as const) {
        const reply = await grpcWebJson(api, 'ListVms', { stateFilter: names }, packed);
        assert.match(reply, new RegExp(`grpc-status: ${status}\\b`), `${names} ${packed}`);
      }
    }
  });
});

describe('a shutdown that waits for its guest', () => {
  /** Has a VM that is being shut down, and whose guest takes its time. */
  async function shutDownSlowly(api: TestApi) {
    await bring(api, 'vm', 'RUNNING');
    const { promise, resolve } = Promise.withResolvers<void>();
    api.host.waiting.set('waitForExit', promise);
    const reply = api.call('ShutdownVm', { vm_id: 'vm', timeout_seconds: 600 });
    while (api.vms.get('vm').state !== 'stopping') await new Promise(setImmediate);
    return { reply, end: resolve };
  }

  it('is not cut short by a removal without force, nor by anything else but force', async () => {
    await using api = await openTestApi();
    const { reply, end } = await shutDownSlowly(api);
    assert.equal(await stateOf(api, 'vm'), 'RUNNING');
    for (const name of ['DeleteVm', 'ShutdownVm', 'PauseVm', 'RebootVm', 'BootVm', 'ResumeVm']) {
      const { status, json } = await api.call(name, { vm_id: 'vm' });
      assert.deepEqual([name, status, json.code], [name, 412, 'failed_precondition']);
      assert.match(json.message, /^VM vm must be .* \(it is being shut down\)$/);
    }
    assert.equal(api.vms.get('vm').state, 'stopping');
    end();
    assert.deepEqual((await reply).json, { success: true, state: 'VM_STATE_SHUTDOWN' });
  });

  it('has half of its time for each of the two ways to ask a guest of an image', async () => {
    await using api = await openTestApi();
    await bring(api, 'vm', 'RUNNING');
    assert.equal((await api.call('ShutdownVm', { vm_id: 'vm', timeout_seconds: 4 })).status, 200);
    // This one does not listen to the first.
    assert.deepEqual(api.host.graces, [2000]);
  });

  it('is cut short by one with force', async () => {
    await using api = await openTestApi();
    await bring(api, 'vm', 'RUNNING');
    api.host.waiting.set('waitForExit', new Promise(() => {}));
    const waiting = api.call('ShutdownVm', { vm_id: 'vm', timeout_seconds: 600 });
    while (api.vms.get('vm').state !== 'stopping') await new Promise(setImmediate);
    assert.equal((await api.call('ShutdownVm', { vm_id: 'vm', force: true })).status, 200);
    assert.equal((await waiting).status, 200);
  });
});

describe('limits', () => {
  it('are told as exhausted resources', async () => {
    await using api = await openTestApi({ quotas: { maxVms: 1 } });
    await bring(api, 'vm', 'CREATED');
    const { status, json } = await api.call('CreateVm', { config: smallConfig });
    assert.deepEqual([status, json.code, json.details[0].reason], [429, 'resource_exhausted', 'QUOTA_EXCEEDED']);
  });

  for (const timeout of [-1, 601]) {
    it(`refuse a timeout of ${timeout} s`, async () => {
      await using api = await openTestApi();
      const { status, json } = await api.call('ShutdownVm', { vm_id: 'vm', timeout_seconds: timeout });
      assert.deepEqual([status, json.message], [400, 'timeout_seconds must be from 0 to 600']);
    });
  }
});
