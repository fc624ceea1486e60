import { readFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { runCommand } from '../src/common/command.ts';
import { openDatabase } from '../src/store/database.ts';
import { VmStore } from '../src/store/vm-store.ts';
import { sampleVm } from '../src/vm/testing/sample-vm.ts';
import { startDaemon } from '../test/support/daemon.ts';
import { load } from './http-load.ts';
import { quantity, type Row, summarize } from './report.ts';

const records = 100;
const starts = 3;
const seconds = 5;

/**
 * Reading VMs over HTTP and the daemon's memory, with 100 VM records in the store. The floor is a bare `node:http` server
 * that sends the same bytes for every request.
 */
export async function benchApi(): Promise<Row[]> {
  const first = await startDaemon();
  await first.kill();
  await seed(join(first.home, 'berth.db'));
  let daemon = first;
  let list = '';
  const restingMiB: number[] = [];
  for (let n = 0; n < starts; n++) {
    await daemon.kill();
    daemon = await daemon.restart();
    list = await (await daemon.call('GET', '/v1/vms')).text();
    restingMiB.push(await memory(daemon.pid));
  }
  try {
    const headers = { 'x-api-key': daemon.apiKey };
    const vms = JSON.parse(list) as { id: string }[];
    if (vms.length !== records) throw new Error(`${vms.length} records instead of ${records}`);
    const rows: Row[] = [];
    for (const [what, path, body] of [
      [`GET /v1/vms, ${records} VMs`, '/v1/vms', list],
      ['GET /v1/vms/:id', `/v1/vms/${vms[0]!.id}`, JSON.stringify(vms[0])],
    ] as const) {
      await load(daemon.url + path, headers, 1);
      const value = await load(daemon.url + path, headers, seconds);
      const floor = { what: 'bare node:http, same bytes', value: await bareHttp(body) };
      rows.push(quantity({ what, value, unit: '/s', floor, atLeast: 5000 }));
    }
    const loadedMiB = await memory(daemon.pid);
    const floor = { what: 'empty node', value: await bareNodeMemory() };
    const what = `daemon memory, ${records} VM records, median of ${starts} starts`;
    // 120 MB are 114 MiB.
    rows.push(quantity({ what, value: summarize(restingMiB).p50, unit: ' MiB', floor, atMost: 114 }));
    rows.push(quantity({ what: `${what}, after the load`, value: loadedMiB, unit: ' MiB', floor }));
    return rows;
  } finally {
    await daemon.stop();
  }
}

async function seed(path: string): Promise<void> {
  const db = openDatabase(path);
  const store = new VmStore(db);
  for (let n = 0; n < records; n++) {
    await store.insert(
      sampleVm(n + 2, {
        id: `00000000-0000-4000-8000-${n.toString(16).padStart(12, '0')}`,
        name: `vm-${n}`,
        createdAt: new Date().toISOString(),
      }),
      null,
    );
  }
  db.close();
}

async function bareHttp(body: string): Promise<number> {
  const server = createServer((_, reply) => reply.writeHead(200, { 'content-type': 'application/json' }).end(body));
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  try {
    return await load(`http://127.0.0.1:${(server.address() as AddressInfo).port}`, {}, seconds);
  } finally {
    server.close();
  }
}

/** Resident MiB of a process. */
async function memory(pid: number): Promise<number> {
  const status = await readFile(`/proc/${pid}/status`, 'utf8');
  return Number(/VmRSS:\s+(\d+)/.exec(status)?.[1]) / 1024;
}

/** Resident MiB of a Node that does nothing. */
async function bareNodeMemory(): Promise<number> {
  const { stdout } = await runCommand(process.execPath, ['-e', 'console.log(process.memoryUsage().rss)']);
  return Number(stdout) / 1024 / 1024;
}
