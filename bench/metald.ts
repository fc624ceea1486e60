import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { openDatabase } from '../src/store/database.ts';
import { VmStore } from '../src/store/vm-store.ts';
import { sampleVm } from '../src/vm/testing/sample-vm.ts';
import { startDaemon, type TestDaemon } from '../test/support/daemon.ts';
import { type Call, load } from './http-load.ts';
import { RawHttp } from './raw-http.ts';
import { quantity, type Row, times } from './report.ts';
import { covered, operationSteps } from './steps.ts';

const records = 10_000;
/** There are user ids for 10 000 VMs. */
const createSeconds = 2;
const seconds = 5;
const lists = 500;
/** Calls before those that count, as the loads have a second of their own. */
const warmUp = 50;
const boots = 9;

const env = {
  BERTH_DEV: '1',
  // Room for as many leases, and nothing else in the way.
  BERTH_NETWORK_ADDRESS: '172.16.0.1/16',
  BERTH_QUOTA_MAX_VMS: '20000',
  BERTH_QUOTA_TOTAL_DISK_MIB: '100000000',
  BERTH_LOG_LEVEL: 'warn',
};

const config = { cpu: { vcpu_count: 1 }, memory: { size_bytes: 268_435_456 }, boot: { kernel_path: 'image:sandbox' } };

/** The metald API over Connect in JSON, with 16 connections: reads beside 10 000 VMs, creates, and what a boot costs. */
export async function benchMetald(): Promise<Row[]> {
  return [...(await benchReads()), ...(await benchCreates()), ...(await benchBoots())];
}

async function benchReads(): Promise<Row[]> {
  const first = await startDaemon({ env });
  await first.kill();
  await seed(join(first.home, 'berth.db'));
  const daemon = await first.restart();
  try {
    const info = call('GetVmInfo', { vm_id: 'vm-5002' });
    const reply = await (await send(daemon, info)).text();
    await load(daemon.urls.metald! + info.path, info.headers, 1, { request: info });
    const value = await load(daemon.urls.metald! + info.path, info.headers, seconds, { request: info });
    const floor = { what: 'bare node:http, same bytes', value: await bareHttp(info, reply) };
    return [
      quantity({ what: `GetVmInfo, ${records} VMs`, value, unit: '/s', floor, atLeast: 5000 }),
      times({ what: `ListVms, first 50 of ${records}`, ms: await timeLists(daemon, ''), atMost: { p99Ms: 20 } }),
      times({
        what: `ListVms, 50 in the middle of ${records}`,
        ms: await timeLists(daemon, 'middle'),
        atMost: { p99Ms: 20 },
      }),
    ];
  } finally {
    await daemon.stop();
  }
}

async function timeLists(daemon: TestDaemon, where: '' | 'middle'): Promise<number[]> {
  const token = where === '' ? '' : btoa(JSON.stringify({ offset: records / 2 }));
  const list = call('ListVms', { page_size: 50, page_token: token });
  const ms: number[] = [];
  const http = await RawHttp.connect(daemon.urls.metald!);
  for (let n = -warmUp; n < lists; n++) {
    const started = performance.now();
    const body = await http.call('POST', list.path, list);
    if (n >= 0) ms.push(performance.now() - started);
    const reply = JSON.parse(body) as { vms: unknown[]; total_count: number };
    if (reply.vms.length !== 50 || reply.total_count !== records) throw new Error('not the page that was asked for');
  }
  http.close();
  return ms;
}

async function benchCreates(): Promise<Row[]> {
  const daemon = await startDaemon({ env });
  try {
    const create = call('CreateVm', { config });
    const url = daemon.urls.metald! + create.path;
    await load(url, create.headers, 1, { request: create });
    const value = await load(url, create.headers, createSeconds, { request: create });
    const floor = {
      what: 'bare node:http, an answer as long',
      value: await bareHttp(create, `{"vm_id":"${'x'.repeat(19)}"}`),
    };
    return [quantity({ what: 'CreateVm without boot, each on the disk', value, unit: '/s', floor, atLeast: 2000 })];
  } finally {
    await daemon.stop();
  }
}

/** What a boot through the API takes beyond what the engine and the guest need. */
async function benchBoots(): Promise<Row[]> {
  await using daemon = await startDaemon({ env: { BERTH_DEV: '1' } });
  const ms: number[] = [];
  const smallest: number[] = [];
  for (let n = 0; n < boots; n++) {
    await send(daemon, call('CreateVm', { vm_id: `vm-${n}`, config }));
    const http = await RawHttp.connect(daemon.urls.metald!);
    const [bootVm, getInfo] = ['BootVm', 'GetVmInfo'].map((name) => call(name, { vm_id: `vm-${n}` })) as [Sent, Sent];
    const started = performance.now();
    await http.call('POST', bootVm.path, bootVm);
    const boot = performance.now() - started;
    const steps = operationSteps(daemon, 'start').at(-1) ?? [];
    ms.push(boot - covered(steps) / 1000);
    // Beside the guest, which works on after it has answered, and from a client that has waited as long.
    const asked = performance.now();
    await http.call('POST', getInfo.path, getInfo);
    smallest.push(performance.now() - asked);
    http.close();
    await send(daemon, call('DeleteVm', { vm_id: `vm-${n}`, force: true }));
  }
  const floor = { what: 'GetVmInfo at that moment', ms: smallest };
  return [
    times({ what: 'BootVm, less all its steps', ms, floor }),
    times({
      what: 'what BootVm adds: the same less what a call takes at that moment',
      ms: ms.map((boot, n) => boot - smallest[n]!),
      atMost: { ms: 5 },
    }),
  ];
}

type Sent = Call & { readonly path: string; readonly headers: Record<string, string> };

function call(name: string, body: unknown): Sent {
  return {
    path: `/vmprovisioner.v1.VmService/${name}`,
    method: 'POST',
    headers: { 'content-type': 'application/json', authorization: 'Bearer dev_customer_bench' },
    body: JSON.stringify(body),
  };
}

async function send(daemon: TestDaemon, { path, method, headers, body }: Sent): Promise<Response> {
  const response = await fetch(daemon.urls.metald! + path, { method, headers, body });
  if (!response.ok) throw new Error(`${path}: ${response.status} ${await response.text()}`);
  return response;
}

async function seed(path: string): Promise<void> {
  const db = openDatabase(path);
  const store = new VmStore(db);
  const apiRecord = JSON.stringify({ metald: { cpu: { vcpuCount: 1 }, memory: { sizeBytes: '268435456' } } });
  for (let n = 2; n < records + 2; n++) {
    const createdAt = new Date(Date.UTC(2026, 0, 1) + n).toISOString();
    await store.insert(sampleVm(n, { tenant: 'bench', createdAt, apiRecord, labels: { name: `vm ${n}` } }), null);
  }
  db.close();
}

/** A server that reads the request and sends the same bytes. */
async function bareHttp(request: Call, body: string): Promise<number> {
  const server = createServer((incoming, reply) => {
    incoming.resume();
    incoming.on('end', () => reply.writeHead(200, { 'content-type': 'application/json' }).end(body));
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  try {
    return await load(`http://127.0.0.1:${(server.address() as AddressInfo).port}`, {}, seconds, { request });
  } finally {
    server.close();
  }
}
