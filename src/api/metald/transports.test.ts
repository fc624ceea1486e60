/** Clients as they are generated, over every protocol that is served. */

import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { fileURLToPath } from 'node:url';
import { type Client, Code, ConnectError, createClient, type Transport } from '@connectrpc/connect';
import { createConnectTransport, createGrpcTransport, createGrpcWebTransport } from '@connectrpc/connect-node';
import { createGrpcWebTransport as createBrowserTransport } from '@connectrpc/connect-web';
import { credentials, loadPackageDefinition, Metadata, type ServiceError, status } from '@grpc/grpc-js';
import { loadSync } from '@grpc/proto-loader';
import { ErrorInfoSchema } from './gen/google/rpc/error_details_pb.js';
import { VmService, VmState } from './gen/vmprovisioner/v1/vm_pb.js';
import { openTestApi, type TestApi } from './testing/test-api.ts';

const config = {
  cpu: { vcpuCount: 1 },
  memory: { sizeBytes: 134_217_728n },
  boot: { kernelPath: 'image:test' },
  metadata: { name: 'n' },
};

const transports: Readonly<Record<string, (baseUrl: string) => Transport>> = {
  'Connect, JSON, HTTP/1.1': (baseUrl) =>
    createConnectTransport({ baseUrl, httpVersion: '1.1', useBinaryFormat: false }),
  'Connect, JSON, HTTP/2': (baseUrl) => createConnectTransport({ baseUrl, httpVersion: '2', useBinaryFormat: false }),
  'Connect, binary, HTTP/1.1': (baseUrl) =>
    createConnectTransport({ baseUrl, httpVersion: '1.1', useBinaryFormat: true }),
  'Connect, binary, HTTP/2': (baseUrl) => createConnectTransport({ baseUrl, httpVersion: '2', useBinaryFormat: true }),
  'gRPC, HTTP/2': (baseUrl) => createGrpcTransport({ baseUrl }),
  'gRPC, JSON, HTTP/2': (baseUrl) => createGrpcTransport({ baseUrl, useBinaryFormat: false }),
  'gRPC-Web, HTTP/1.1': (baseUrl) => createGrpcWebTransport({ baseUrl, httpVersion: '1.1' }),
  'gRPC-Web, HTTP/2': (baseUrl) => createGrpcWebTransport({ baseUrl, httpVersion: '2' }),
  'gRPC-Web of browsers': (baseUrl) => createBrowserTransport({ baseUrl }),
};

for (const style of ['spec', 'proto'] as const) {
  describe(`clients of connect-es, replies in the style ${style}`, () => {
    let api: TestApi;
    before(async () => {
      api = await openTestApi({ style, quotas: { maxVms: 2 } });
    });
    after(() => api[Symbol.asyncDispose]());

    for (const [name, transport] of Object.entries(transports)) {
      describe(name, () => {
        let client: Client<typeof VmService>;
        const as = (customer: string) => ({ headers: { authorization: `Bearer dev_customer_${customer}` } });
        before(() => {
          client = createClient(VmService, transport(api.url));
        });

        it('take a VM through its life', async () => {
          const me = as('a');
          const { vmId, state } = await client.createVm({ config }, me);
          assert.match(vmId, /^ud-[a-f0-9]{16}$/);
          assert.equal(state, VmState.CREATED);
          assert.deepEqual(await states(client.bootVm({ vmId }, me)), [true, VmState.RUNNING]);
          const info = await client.getVmInfo({ vmId }, me);
          assert.equal(info.config?.cpu?.vcpuCount, 1);
          assert.equal(info.config?.memory?.sizeBytes, 134_217_728n);
          assert.equal(info.backendInfo.backend_type, 'fake');
          assert.equal(info.networkInfo?.interfaces.length, 1);
          assert.ok((info.metrics?.cpuTimeNanos ?? 0n) > 0n);
          assert.deepEqual(await states(client.pauseVm({ vmId }, me)), [true, VmState.PAUSED]);
          assert.deepEqual(await states(client.resumeVm({ vmId }, me)), [true, VmState.RUNNING]);
          assert.deepEqual(await states(client.rebootVm({ vmId, force: true }, me)), [true, VmState.RUNNING]);
          const list = await client.listVms({ stateFilter: [VmState.RUNNING] }, me);
          assert.deepEqual(
            [list.totalCount, list.vms.map((vm) => [vm.vmId, vm.memorySizeBytes, vm.customerId, vm.metadata.name])],
            [1, [[vmId, 134_217_728n, 'a', 'n']]],
          );
          assert.deepEqual(await states(client.shutdownVm({ vmId, force: true }, me)), [true, VmState.SHUTDOWN]);
          assert.equal((await client.deleteVm({ vmId }, me)).success, true);
        });

        it('are told each failure of the reference, with details', async () => {
          const { vmId } = await client.createVm({ config }, as('a'));
          const { vmId: more } = await client.createVm({ config }, as('a'));
          api.host.failing.add('start');
          const rows = [
            [Code.Unauthenticated, 'UNAUTHENTICATED', () => client.listVms({})],
            [Code.InvalidArgument, 'INVALID_ARGUMENT', () => client.createVm({}, as('a'))],
            [Code.NotFound, 'VM_NOT_FOUND', () => client.bootVm({ vmId: 'none' }, as('a'))],
            [Code.AlreadyExists, 'VM_EXISTS', () => client.createVm({ vmId, config }, as('a'))],
            [Code.PermissionDenied, 'VM_NOT_OWNED', () => client.bootVm({ vmId }, as('b'))],
            [Code.PermissionDenied, 'CUSTOMER_MISMATCH', () => client.createVm({ config, customerId: 'x' }, as('a'))],
            [Code.ResourceExhausted, 'QUOTA_EXCEEDED', () => client.createVm({ config }, as('a'))],
            [Code.FailedPrecondition, 'WRONG_STATE', () => client.pauseVm({ vmId }, as('a'))],
            [Code.Internal, 'BOOT_FAILED', () => client.bootVm({ vmId }, as('a'))],
          ] as const;
          for (const [code, reason, attempt] of rows) {
            const error = await failure(attempt());
            const [detail] = error.findDetails(ErrorInfoSchema);
            assert.deepEqual([error.code, detail?.reason, detail?.domain], [code, reason, 'metald.unkey.com']);
          }
          api.host.failing.clear();
          for (const id of [vmId, more]) await client.deleteVm({ vmId: id }, as('a'));
        });

        it('have their deadline kept', async () => {
          const held = Promise.withResolvers<void>();
          const { vmId } = await client.createVm({ config }, as('a'));
          api.host.waiting.set('start', held.promise);
          const error = await failure(client.bootVm({ vmId }, { ...as('a'), timeoutMs: 100 }));
          assert.equal(error.code, Code.DeadlineExceeded);
          api.host.waiting.clear();
          held.resolve();
          // What was begun goes on; the removal waits for it.
          await client.deleteVm({ vmId, force: true }, as('a'));
        });
      });
    }
  });
}

async function states(reply: Promise<{ readonly success: boolean; readonly state: VmState }>) {
  const { success, state } = await reply;
  return [success, state];
}

async function failure(call: Promise<unknown>): Promise<ConnectError> {
  const error = await call.then(
    () => assert.fail('the call succeeded'),
    (reason: unknown) => reason,
  );
  assert.ok(error instanceof ConnectError, String(error));
  return error;
}

describe('a client of @grpc/grpc-js, which shares no code with the server', () => {
  const proto = fileURLToPath(new URL('../../../proto', import.meta.url));
  let api: TestApi;
  // biome-ignore lint/suspicious/noExplicitAny: the client is made at run time from the proto file.
  let client: any;
  const as = (customer: string) => {
    const metadata = new Metadata();
    metadata.set('authorization', `Bearer dev_customer_${customer}`);
    return metadata;
  };
  /** One call: its reply, or its error. */
  const call = (method: string, request: unknown, metadata = as('a'), options = {}) =>
    // biome-ignore lint/suspicious/noExplicitAny: as above.
    new Promise<any>((resolve) =>
      client[method](request, metadata, options, (error: ServiceError | null, reply: unknown) =>
        resolve(error ?? reply),
      ),
    );

  before(async () => {
    api = await openTestApi();
    const definition = loadSync('vmprovisioner/v1/vm.proto', { includeDirs: [proto], longs: String, enums: String });
    // biome-ignore lint/suspicious/noExplicitAny: as above.
    const loaded = loadPackageDefinition(definition) as any;
    client = new loaded.vmprovisioner.v1.VmService(new URL(api.url).host, credentials.createInsecure());
  });
  after(async () => {
    client.close();
    await api[Symbol.asyncDispose]();
  });

  it('takes a VM through its life', async () => {
    const { vmId } = await call('createVm', { config: { ...config, memory: { sizeBytes: '134217728' } } });
    assert.equal((await call('bootVm', { vmId })).state, 'VM_STATE_RUNNING');
    assert.equal((await call('getVmInfo', { vmId })).config.memory.sizeBytes, '134217728');
    assert.equal((await call('shutdownVm', { vmId, force: true })).state, 'VM_STATE_SHUTDOWN');
    assert.equal((await call('listVms', {})).totalCount, 1);
    assert.equal((await call('deleteVm', { vmId })).success, true);
  });

  it('is told what failed', async () => {
    assert.equal((await call('listVms', {}, new Metadata())).code, status.UNAUTHENTICATED);
    assert.equal((await call('createVm', {})).code, status.INVALID_ARGUMENT);
    const missing = await call('bootVm', { vmId: 'none' });
    assert.deepEqual([missing.code, missing.details], [status.NOT_FOUND, 'VM none not found']);
    assert.ok(missing.metadata.get('grpc-status-details-bin').length > 0);
  });

  it('has its messages packed', async () => {
    const metadata = as('a');
    metadata.set('grpc-internal-encoding-request', 'gzip');
    const reply = await call('createVm', { config: { ...config, metadata: { name: 'x'.repeat(3000) } } }, metadata);
    assert.match(reply.vmId, /^ud-/);
    assert.equal((await call('getVmInfo', { vmId: reply.vmId })).config.metadata.name.length, 3000);
  });
});
