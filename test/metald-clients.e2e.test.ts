/** Clients of the metald API that share no code with it, before a daemon and a VM that are real: in Go, connect-node, curl. */

import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { createClient } from '@connectrpc/connect';
import { createGrpcTransport, createGrpcWebTransport } from '@connectrpc/connect-node';
import { VmService } from '../src/api/metald/gen/vmprovisioner/v1/vm_pb.js';
import { makeCertificate } from '../src/api/metald/testing/certificates.ts';
import { attribute, type Collector, openCollector } from '../src/api/metald/testing/collector.ts';
import { runCommand } from '../src/common/command.ts';
import { curlTls } from './support/curl.ts';
import { startDaemon, type TestDaemon } from './support/daemon.ts';
import { eventually } from './support/eventually.ts';
import {
  buildGoClient,
  type GoClientOptions,
  type GoOutcome,
  type GoProgram,
  goVariants,
} from './support/go-client.ts';
import { makeIdentity } from './support/identity.ts';
import { noTraces, traces } from './support/leftovers.ts';
import { bearer, smallConfig as config, development, oldTemplate } from './support/metald-examples.ts';
import { runBerth } from './support/serve.ts';

let go: GoProgram;
before(async () => {
  go = await buildGoClient();
});
after(() => go?.[Symbol.asyncDispose]());

describe('a daemon', () => {
  const vmId = 'of-go';
  let directory: string;
  let files: { readonly cert: string; readonly key: string };
  let daemon: TestDaemon;
  let collector: Collector;
  let pid: string;
  before(async () => {
    directory = await mkdtemp('/tmp/berth-clients-');
    files = { cert: join(directory, 'cert.pem'), key: join(directory, 'key.pem') };
    collector = await openCollector();
    daemon = await startDaemon({ env: { BERTH_DEV: '1' } });
  });
  after(async () => {
    collector?.[Symbol.dispose]();
    await daemon?.stop();
    await rm(directory, { recursive: true, force: true });
  });

  /** One call by a client of its own. */
  async function call(
    variant: Omit<GoClientOptions, 'url'>,
    name: string,
    request: object,
    metadata: Record<string, string>,
    timeout_ms = 0,
  ): Promise<GoOutcome> {
    await using client = go.start({ url: daemon.urls.metald!, ...variant });
    return client.call({ call: name, request, metadata, timeout_ms });
  }

  describe('in development, without TLS', () => {
    const me = development('acme');
    const plain = { protocol: 'grpc' } as const;

    it('says so', async () => {
      await eventually('it is said', async () =>
        /DEVELOPMENT MODE: whoever reaches the metald API is any customer/.test(daemon.output()),
      );
    });

    it('takes a VM through its life, by gRPC from Go, in all nine calls', async () => {
      await using client = go.start({ url: daemon.urls.metald!, protocol: 'grpc', gzip: true });
      const make = async (name: string, request: object) => {
        const { reply, error } = await client.call({ call: name, request, metadata: me });
        assert.equal(error, undefined, JSON.stringify(error));
        return reply;
      };
      const is = (state: string) => ({ success: true, state: `VM_STATE_${state}` });
      const created = await make('CreateVm', { vmId, config: { ...config, metadata: { name: 'x'.repeat(2000) } } });
      assert.deepEqual(created, { vm_id: vmId, state: 'VM_STATE_CREATED' });
      assert.deepEqual(await make('BootVm', { vmId }), is('RUNNING'));
      assert.deepEqual(await make('PauseVm', { vmId }), is('PAUSED'));
      assert.deepEqual(await make('ResumeVm', { vmId }), is('RUNNING'));
      assert.deepEqual(await make('RebootVm', { vmId }), is('RUNNING'));
      const info = await make('GetVmInfo', { vmId });
      assert.ok(Number(info.metrics.cpu_time_nanos) > 0);
      assert.equal(info.config.memory.size_bytes, '268435456');
      const list = await make('ListVms', { stateFilter: ['VM_STATE_RUNNING'], pageSize: 1 });
      assert.deepEqual([list.total_count, list.vms[0].vm_id, list.vms[0].customer_id], [1, vmId, 'acme']);
      assert.deepEqual(await make('ShutdownVm', { vmId, timeoutSeconds: 30 }), is('SHUTDOWN'));
      const other = await make('CreateVm', { config });
      assert.deepEqual(await make('DeleteVm', { vmId: other.vm_id }), { success: true });
    });

    it('keeps the deadline of a boot, which goes on', async () => {
      const late = await call(plain, 'BootVm', { vmId }, me, 100);
      assert.equal(late.error?.code, 'DeadlineExceeded');
      await eventually('the VM runs', async () => {
        return (await call(plain, 'GetVmInfo', { vmId }, me)).reply.state === 'VM_STATE_RUNNING';
      });
    });

    it('answers all protocols the same, packed for whoever wants that', async () => {
      for (const variant of goVariants) {
        const { reply, packed, proto } = await call(variant, 'GetVmInfo', { vmId }, me);
        assert.deepEqual([reply.vm_id, reply.config.metadata.name.length], [vmId, 2000]);
        assert.equal(packed, variant.gzip === true, JSON.stringify(variant));
        assert.equal(proto, variant.protocol === 'grpc' ? 'HTTP/2.0' : 'HTTP/1.1');
        pid = reply.backend_info.process_id;
      }
    });

    it('tells nobody what it serves, and refuses what would have no effect', async () => {
      assert.equal((await call(plain, 'Reflect', {}, {})).error?.code, 'Unimplemented');
      const { error } = await call(plain, 'CreateVm', { config: oldTemplate }, me);
      assert.deepEqual(
        [error?.code, error?.message],
        ['InvalidArgument', 'cpu topology is not supported but for one socket with vcpu_count cores of one thread'],
      );
    });
  });

  describe('that was killed, in production, with TLS', () => {
    const trace = '0af7651916cd43dd8448eb211c80319c';
    let token: string;
    let jwt: string;
    before(async () => {
      const identity = await makeIdentity(directory);
      jwt = await identity.tokenOf('acme');
      await makeCertificate(files, 'first');
      await daemon.kill();
      daemon = await daemon.restart({
        env: {
          BERTH_METALD_TLS_CERT: files.cert,
          BERTH_METALD_TLS_KEY: files.key,
          BERTH_METALD_REFLECTION: 'true',
          BERTH_METALD_UNSUPPORTED: 'record',
          BERTH_METALD_JSON: 'proto',
          BERTH_METALD_LOAD_SCRIPT_RULES: 'true',
          BERTH_METALD_HIDE_FOREIGN_VMS: 'true',
          BERTH_METALD_METRICS: 'aggregate',
          BERTH_METALD_TRACES: collector.url,
          BERTH_METALD_JWKS: identity.keySet,
          BERTH_METALD_JWT_ISSUER: identity.issuer,
          BERTH_QUOTA_TENANT_MAX_VMS: '2',
        },
      });
      const made = await runBerth(['token', 'create', '--customer', 'acme'], { BERTH_HOME: daemon.home });
      token = made.stdout.trim();
      assert.match(token, /^bt_/, made.stderr);
    });

    const listed = (ca: string, flag: '--http1.1' | '--http2') =>
      curlTls(`${daemon.urls.metald}/v1/vms`, { ca, token, flag });
    const trusting = (protocol: GoClientOptions['protocol']) => ({ protocol, ca: files.cert });

    it('has the VM as it was, for the customer of a token or a JWT and for nobody who says so', async () => {
      for (const protocol of ['grpc', 'connect', 'connect+json'] as const)
        for (const key of [token, jwt]) {
          const { reply, proto, error } = await call(trusting(protocol), 'GetVmInfo', { vmId }, bearer(key));
          assert.equal(error, undefined, JSON.stringify(error));
          assert.deepEqual([reply.state, reply.backend_info.process_id, proto], ['VM_STATE_RUNNING', pid, 'HTTP/2.0']);
        }
      assert.doesNotMatch(daemon.output(), /DEVELOPMENT/);
      const { error } = await call(trusting('grpc'), 'ListVms', {}, development('acme'));
      assert.equal(error?.code, 'Unauthenticated');
      const other = { cert: join(directory, 'other.pem'), key: join(directory, 'other-key.pem') };
      await makeCertificate(other, 'other');
      const untrusted = await call({ protocol: 'grpc', ca: other.cert }, 'ListVms', {}, bearer(token));
      assert.equal(untrusted.error?.code, 'Unavailable');
    });

    it('tells whoever asks what it serves', async () => {
      const { reply } = await call(trusting('grpc'), 'Reflect', {}, {});
      assert.deepEqual(
        reply['vmprovisioner.v1.VmService'],
        Object.values(VmService.method)
          .map(({ name }) => name)
          .sort(),
      );
    });

    it('serves connect-node and curl, in the version of HTTP they agree on', async () => {
      const { stdout: pem } = await runCommand('cat', [files.cert]);
      const nodeOptions = { ca: pem };
      const baseUrl = daemon.urls.metald!;
      const transports = [
        createGrpcTransport({ baseUrl, nodeOptions }),
        createGrpcWebTransport({ baseUrl, httpVersion: '1.1', nodeOptions }),
      ];
      for (const transport of transports)
        assert.equal((await createClient(VmService, transport).listVms({}, { headers: bearer(token) })).totalCount, 1);
      for (const [flag, version] of [
        ['--http1.1', '1.1'],
        ['--http2', '2'],
      ] as const)
        assert.equal(await listed(files.cert, flag), `200 ${version}`);
    });

    it('takes what an old client asks for, and gives it back', async () => {
      const created = await call(
        trusting('grpc'),
        'CreateVm',
        { vmId: 'old', config: oldTemplate },
        { ...bearer(token), traceparent: `00-${trace}-b7ad6b7169203331-01` },
      );
      assert.deepEqual(created.reply, { vm_id: 'old', state: 'VM_STATE_CREATED' });
      const { reply } = await call(trusting('grpc'), 'GetVmInfo', { vmId: 'old' }, bearer(token));
      const { cpu, memory, storage, network, console } = reply.config;
      assert.deepEqual(
        [cpu.topology.threads_per_core, cpu.features, memory.hotplug_enabled, memory.backing],
        [2, { aes: 'on' }, true, { type: 'hugepages' }],
      );
      assert.deepEqual(
        [storage[0].options, network[0].tap_device, network[0].options, console.input],
        [{ cache_type: 'Unsafe' }, 'tap0', { queues: '1' }, '/dev/null'],
      );
      assert.notEqual(reply.network_info.tap_device, 'tap0');
    });

    it('gives a customer what its quota is, and another one its own, of which the first is not told', async () => {
      const more = await call(trusting('grpc'), 'CreateVm', { config }, bearer(token));
      assert.deepEqual([more.error?.code, more.error?.reason], ['ResourceExhausted', 'QUOTA_EXCEEDED']);
      const made = await runBerth(['token', 'create', '--customer', 'other'], { BERTH_HOME: daemon.home });
      const other = bearer(made.stdout.trim());
      const { reply } = await call(trusting('grpc'), 'CreateVm', { vmId: 'theirs', config }, other);
      assert.equal(reply.vm_id, 'theirs');
      const foreign = await call(trusting('grpc'), 'DeleteVm', { vmId: 'theirs' }, bearer(token));
      assert.deepEqual([foreign.error?.code, foreign.error?.reason], ['NotFound', 'VM_NOT_FOUND']);
      assert.deepEqual((await call(trusting('grpc'), 'DeleteVm', { vmId: 'theirs' }, other)).reply, { success: true });
    });

    it('sends a span of each call to its collector, without what is secret', async () => {
      await call(trusting('grpc'), 'PauseVm', { vmId: 'old' }, bearer(jwt));
      const find = (name: string) => collector.spans.find((span) => span.name === `vmprovisioner.v1.VmService/${name}`);
      await eventually('the spans are there', async () => find('PauseVm') !== undefined);
      const created = find('CreateVm');
      assert.deepEqual([created.traceId, created.status.code], [trace, 0]);
      assert.deepEqual(
        ['customer_id', 'vm_id', 'rpc.service', 'rpc.method'].map((key) => attribute(created, key)),
        ['acme', 'old', 'vmprovisioner.v1.VmService', 'CreateVm'],
      );
      const paused = find('PauseVm');
      assert.deepEqual(paused.status, { code: 2, message: 'failed_precondition' });
      const text = collector.received() + daemon.output();
      // Its random part may have underscores, too.
      const random = token.slice('bt_0123456789abcdef_'.length);
      for (const secret of [token, random, jwt, jwt.split('.')[2]!, 'cache_type', directory])
        assert.ok(!collector.received().includes(secret), secret);
      for (const secret of [token, jwt]) assert.ok(!text.includes(secret));
    });

    it('shows the certificate that replaces the first one', async () => {
      const old = join(directory, 'old.pem');
      await runCommand('cp', [files.cert, old]);
      await makeCertificate(files, 'second');
      await eventually('the new one is shown', async () => (await listed(files.cert, '--http2')) === '200 2');
      assert.equal(await listed(old, '--http2'), '000 0');
      const { reply } = await call(trusting('grpc'), 'ListVms', {}, bearer(token));
      assert.equal(reply.total_count, 2);
    });

    it('prints JSON as the original does, and no customer where metrics are added up', async () => {
      const get = async (path: string) => {
        const args = ['-sS', '--cacert', files.cert, '-H', `Authorization: Bearer ${token}`];
        return (await runCommand('curl', [...args, daemon.urls.metald + path])).stdout;
      };
      const { vms, totalCount } = JSON.parse(await get('/v1/vms'));
      assert.deepEqual([totalCount, vms[1].vmId, vms[1].memorySizeBytes], [2, vmId, '268435456']);
      const metrics = await get('/metrics');
      assert.match(metrics, /^unkey_metald_vms\{backend="qemu",state="running"\} 1$/m);
      assert.doesNotMatch(metrics, /acme|of-go/);
    });

    it('takes running VMs by the rules of the load script, and leaves nothing of them behind', async () => {
      for (const id of [vmId, 'old'])
        assert.deepEqual((await call(trusting('grpc'), 'DeleteVm', { vmId: id }, bearer(token))).reply, {
          success: true,
        });
      assert.deepEqual(await traces(daemon.home), noTraces);
    });
  });
});
