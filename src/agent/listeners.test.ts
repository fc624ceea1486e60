import assert from 'node:assert/strict';
import { once } from 'node:events';
import { readFile, stat } from 'node:fs/promises';
import { type IncomingMessage, request } from 'node:http';
import { connect } from 'node:net';
import { buffer, text } from 'node:stream/consumers';
import { after, before, describe, test } from 'node:test';
import { readBinary, writeBinary } from '../api/prpc/binary.ts';
import type { MessageOf } from '../api/prpc/message.ts';
import { DstackGuest } from './protocol/dstack-guest.ts';
import { startTestAgent, type TestDevAgent } from './testing/dev-agent.ts';
import { unixFetch } from './testing/unix-fetch.ts';

let agent: TestDevAgent;
before(async () => {
  agent = await startTestAgent();
});
after(() => agent[Symbol.asyncDispose]());

const key64 = `00`.repeat(64);

describe('dstack.sock', () => {
  const call = (path: string, body?: unknown) => unixFetch(agent.dstackSocket, path, body);

  test('GET and POST', async () => {
    const posted = await call('/GetKey', { path: 'my/key/path', purpose: 'signing', algorithm: 'ed25519' });
    assert.equal(posted.status, 200);
    const got = await call('/GetKey?path=my/key/path&purpose=signing&algorithm=ed25519');
    assert.deepEqual(got.json(), posted.json());
    assert.equal(got.headers['content-length'], String(got.text.length));
  });

  test('protobuf, and JSON, of one method', async () => {
    const { GetKey } = DstackGuest;
    const asked = { path: 'a', purpose: 'b', algorithm: 'ed25519' };
    const sent = request({ socketPath: agent.dstackSocket, path: '/GetKey', method: 'POST', agent: false });
    sent.end(writeBinary(GetKey.input, asked));
    const [reply] = (await once(sent, 'response')) as [IncomingMessage];
    assert.equal(reply.headers['content-type'], 'application/octet-stream');
    const read = readBinary(GetKey.output, await buffer(reply)) as MessageOf<typeof GetKey.output>;
    const { key, signature_chain: chain } = (await call('/GetKey', asked)).json();
    assert.equal(Buffer.from(read.key).toString('hex'), key);
    assert.deepEqual(
      read.signature_chain.map((each) => Buffer.from(each).toString('hex')),
      chain,
    );
  });

  test('GetQuote has the fields of the reference and no others', async () => {
    const reply = (await call('/GetQuote?report_data=1234deadbeaf')).json();
    assert.deepEqual(Object.keys(reply), ['quote', 'event_log', 'report_data', 'vm_config']);
    assert.equal(reply.report_data, '1234deadbeaf'.padEnd(128, '0'));
    const log = JSON.parse(reply.event_log as string) as { imr: number; event_payload: string; digest: string }[];
    assert.ok(log.every(({ imr, event_payload: payload }) => imr === 3 || payload === ''));
    assert.ok(log.every(({ digest }) => digest.length === 96));
  });

  test('EmitEvent answers null; GpuInfo and Version', async () => {
    assert.equal((await call('/EmitEvent', { event: 'custom-event', payload: 'deadbeef' })).text, 'null');
    assert.equal((await call('/GpuInfo')).text, '{"attestation":""}');
    assert.deepEqual(Object.keys((await call('/Version', {})).json()), ['version', 'rev']);
  });

  test('an event with the name of one of the system changes nothing about the app', async () => {
    const before = (await call('/Info')).json();
    await call('/EmitEvent', { event: 'app-id', payload: '00'.repeat(20) });
    const after = (await call('/Info')).json();
    assert.equal(after.app_id, before.app_id);
    assert.notEqual(after.mr_aggregated, before.mr_aggregated);
  });

  for (const [what, path, body, status, reason] of [
    ['report data of 65 bytes', '/GetQuote', { report_data: `${key64}00` }, 400, /Report data is too long/],
    ['report data of 65 bytes', '/Attest', { report_data: `${key64}00` }, 400, /Report data is too long/],
    ['half a byte', '/GetQuote', { report_data: 'abc' }, 400, /report_data: odd number/],
    ['what is not hexadecimal', '/GetQuote', { report_data: 'xy' }, 400, /report_data: not hexadecimal/],
    ['an unknown algorithm', '/GetKey', { algorithm: 'rsa' }, 400, /Unsupported algorithm/],
    ['an algorithm of Sign', '/GetKey', { algorithm: 'secp256k1_prehashed' }, 400, /Unsupported algorithm/],
    ['no algorithm', '/Sign', { data: '00' }, 400, /Unsupported algorithm/],
    [
      'a digest of 31 bytes',
      '/Sign',
      { algorithm: 'secp256k1_prehashed', data: '00'.repeat(31) },
      400,
      /received 31 bytes/,
    ],
    ['a malformed public key', '/Verify', { algorithm: 'ed25519', public_key: '00' }, 400, /Malformed/],
    ['a name that cannot be in a certificate', '/GetTlsKey', { alt_names: ['a b'] }, 400, /alt_name/],
    ['a period that ends before it begins', '/GetTlsKey', { not_before: 2, not_after: 1 }, 400, /earlier/],
    ['a date beyond all dates', '/GetTlsKey', { not_after: 1e18 }, 400, /9999/],
    ['too long an event', '/EmitEvent', { event: 'x'.repeat(5000) }, 400, /event/],
    ['too long a payload', '/EmitEvent', { event: 'x', payload: '00'.repeat(100_000) }, 400, /payload/],
    ['an unknown method', '/NoSuch', {}, 404, /Service not found: NoSuch/],
    ['an unknown path', '/a/b', {}, 404, /Not Found/],
    ['a path that cannot be decoded', '/%ff', {}, 400, /path/],
  ] as const)
    test(`refuses ${what} (${path})`, async () => {
      const reply = await call(path, body);
      assert.equal(reply.status, status, reply.text);
      assert.match(reply.json().error as string, reason);
    });

  test('goes on after it was sent garbage', async () => {
    const socket = connect(agent.dstackSocket);
    socket.end('\x00\x01\x02 garbage\r\n\r\n');
    assert.match(await text(socket), /^HTTP\/1.1 400 /);
    assert.equal((await call('/Version')).status, 200);
    assert.deepEqual(agent.errors, []);
  });
});

describe('tappd.sock', () => {
  const call = (path: string, body: unknown) => unixFetch(agent.tappdSocket, path, body);

  test('the older methods, with and without their prefix', async () => {
    const key = (await call('/prpc/Tappd.DeriveK256Key', { path: 'a' })).json();
    assert.deepEqual(Object.keys(key), ['k256_key', 'k256_signature_chain']);
    const same = await unixFetch(agent.dstackSocket, '/GetKey', { path: 'a' });
    assert.equal(key.k256_key, same.json().key);
    const quote = (await call('/prpc/TdxQuote?json', { report_data: '00', hash_algorithm: 'keccak256' })).json();
    assert.deepEqual([quote.hash_algorithm, quote.prefix], ['keccak256', 'app-data']);
    const raw = (await call('/prpc/Tappd.RawQuote', { report_data: key64 })).json();
    assert.deepEqual([raw.hash_algorithm, raw.prefix], ['raw', '']);
  });

  test('a random key is another each time', async () => {
    const keys = await Promise.all([1, 2].map(() => call('/prpc/DeriveKey', { path: 'a', random_seed: true })));
    assert.notEqual(keys[0]!.json().key, keys[1]!.json().key);
  });

  for (const [path, body] of [
    ['/prpc/RawQuote', { report_data: '00' }],
    ['/prpc/TdxQuote', { hash_algorithm: 'md5' }],
    ['/prpc/DeriveK256Key', { algorithm: 'ed25519' }],
  ] as const)
    test(`refuses ${path} ${JSON.stringify(body)}`, async () => assert.equal((await call(path, body)).status, 400));
});

describe('the socket of the host', () => {
  const call = async (method: string) => (await unixFetch(agent.guestSocket, `/api/${method}?json`, {})).json();

  test('Info, SysInfo, NetworkInfo', async () => {
    const info = await call('Info');
    assert.deepEqual(Object.keys(info), ['version', 'app_id', 'instance_id', 'app_cert', 'tcb_info', 'device_id']);
    const system = await call('SysInfo');
    assert.equal(typeof system.total_memory, 'number');
    assert.deepEqual(Object.keys(await call('NetworkInfo')), ['dns_servers', 'gateways', 'interfaces', 'wg_info']);
  });

  test('what there is not is said', async () => {
    const stopped = await unixFetch(agent.guestSocket, '/api/Shutdown', {});
    assert.equal(stopped.status, 501);
    const containers = await unixFetch(agent.guestSocket, '/api/ListContainers', {});
    assert.equal(containers.status, 500);
    assert.match(containers.json().error as string, /container engine does not answer/);
  });
});

describe('the HTTP port', () => {
  const get = (path: string) => fetch(agent.httpUrl + path);

  test('its address is in a file', async () => {
    assert.equal(await readFile(`${agent.directory}/http-url`, 'utf8'), `${agent.httpUrl}\n`);
  });

  test('Worker, with and without its prefix', async () => {
    for (const path of ['/prpc/Worker.Version', '/prpc/Version']) {
      const reply = await get(path);
      assert.equal(reply.headers.get('x-app-version'), 'v0.5.8 (git:berth-0.1.0)');
      assert.equal(((await reply.json()) as { version: string }).version, '0.5.8');
    }
  });

  test('an attestation of the key that Sign uses', async () => {
    const sign = await unixFetch(agent.dstackSocket, '/Sign', { algorithm: 'ed25519', data: '00' });
    const key = Buffer.from(sign.json().public_key as string, 'hex').toString('base64url');
    const reply = (await (await get('/prpc/GetAttestationForAppKey?algorithm=ed25519')).json()) as {
      report_data: string;
    };
    const data = Buffer.from(reply.report_data, 'hex').toString('ascii').replace(/\0+$/, '');
    assert.equal(data, `dip1::ed25519-pk:${key}`.slice(0, 64));
  });

  test('dashboard and metrics', async () => {
    const page = await (await get('/')).text();
    assert.match(page, /Simulated TEE/);
    assert.match(page, new RegExp(agent.appId.toString('hex')));
    const metrics = await get('/metrics');
    assert.match(metrics.headers.get('content-type')!, /^text\/plain/);
    assert.match(await metrics.text(), /^system_num_cpus \d+$/m);
  });

  test('logs of an unknown container, and without an engine', async () => {
    assert.equal((await get('/logs/..%2f..%2fetc')).status, 404);
    const reply = await get('/logs/web?since=yesterday');
    assert.equal(reply.status, 400);
    assert.deepEqual(await reply.json(), { error: 'Invalid since', message: 'Invalid since' });
    assert.equal((await get('/logs/web')).status, 500);
  });
});

describe('what an app keeps to itself', () => {
  test('no logs, no metrics, no measurements', async () => {
    await using closed = await startTestAgent({
      compose: { name: '<b>"closed"</b>', public_logs: false, public_sysinfo: false, public_tcbinfo: false },
    });
    for (const path of ['/logs/web', '/metrics']) assert.equal((await fetch(closed.httpUrl + path)).status, 404);
    const info = (await (await fetch(`${closed.httpUrl}/prpc/Info`)).json()) as Record<string, string>;
    assert.deepEqual([info.tcb_info, info.vm_config], ['', '']);
    const toHost = await unixFetch(closed.guestSocket, '/api/Info');
    assert.equal(toHost.json().tcb_info, '');
    const toApp = await unixFetch(closed.dstackSocket, '/Info');
    assert.notEqual(toApp.json().tcb_info, '');
    const page = await (await fetch(closed.httpUrl)).text();
    assert.match(page, /TCB info is not public/);
    assert.doesNotMatch(page, /<b>|Metrics/);
  });
});

describe('files', () => {
  test('a directory whose name is too long for sockets is refused', async () => {
    const directory = `${agent.directory}/${'long'.repeat(25)}`;
    await assert.rejects(startTestAgent({ directory }), { code: 'invalid_argument', message: /too long/ });
  });

  test('secrets and sockets are for their owner alone', async () => {
    const secrets = ['app-keys.json', 'kms-root.json', 'simulated-tee.json'];
    for (const name of [...secrets, 'dstack.sock', 'tappd.sock', 'guest.sock'])
      assert.equal((await stat(`${agent.directory}/${name}`)).mode & 0o077, 0, name);
  });

  test('a second agent in the directory is refused', async () => {
    await assert.rejects(startTestAgent({ directory: agent.directory }), { code: 'conflict' });
  });
});
