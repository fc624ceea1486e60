import { createHash } from 'node:crypto';
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { runCommand } from '../../src/common/command.ts';

/** Everything on the host that belongs to VMs of a data directory; each list is empty when there is none. */
export interface Traces {
  /** Pids of VM processes. */
  readonly processes: readonly number[];
  /** Pids of the processes that write VMs' logs, one each. */
  readonly logWriters: readonly number[];
  readonly taps: readonly string[];
  readonly rules: readonly string[];
  readonly directories: readonly string[];
  readonly rows: readonly string[];
  readonly cgroups: readonly string[];
}

/** Looks at the host itself, not at what the daemon says of it. Addresses of VMs are those of 172.16.0.0/24 or 192.168.1.0/24. */
export async function traces(home: string): Promise<Traces> {
  return {
    processes: await processes((command) => command.includes('qemu') && command.includes(`${home}/vms/`)),
    logWriters: await processes((command) => command.startsWith(`berth-log ${home}/vms/`)),
    taps: await taps(),
    rules: await rules(),
    directories: [...(await names(join(home, 'vms'))), ...(await names(join(home, 'snapshots')))],
    rows: rows(home),
    cgroups: await cgroups(home),
  };
}

export const noTraces: Traces = {
  processes: [],
  logWriters: [],
  taps: [],
  rules: [],
  directories: [],
  rows: [],
  cgroups: [],
};

async function processes(isOurs: (command: string) => boolean): Promise<number[]> {
  const found: number[] = [];
  for (const pid of await readdir('/proc')) {
    if (!/^\d+$/.test(pid)) continue;
    const command = await readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '');
    if (isOurs(command)) found.push(Number(pid));
  }
  return found;
}

export async function taps(): Promise<string[]> {
  const { stdout } = await runCommand('ip', ['-j', '-d', 'link', 'show']);
  const links = JSON.parse(stdout) as { ifname: string; linkinfo?: { info_kind?: string } }[];
  return links.filter((link) => link.linkinfo?.info_kind === 'tun').map((link) => link.ifname);
}

export async function rules(): Promise<string[]> {
  const { stdout } = await runCommand('nft', ['list', 'ruleset']);
  // The gateway and the network are in the rules for good; VMs have the addresses from .2 on.
  const addresses = [...new Set(stdout.match(/(?:172\.16\.0|192\.168\.1)\.\d+\b(?!\/)/g) ?? [])].filter(
    (address) => !/\.(?:0|1|255)$/.test(address),
  );
  return [...addresses, ...(stdout.match(/(?<=^\s*limit )tx_\S+/gm) ?? [])];
}

async function names(path: string): Promise<string[]> {
  return readdir(path).catch(() => []);
}

function rows(home: string): string[] {
  const db = new DatabaseSync(join(home, 'berth.db'), { readOnly: true });
  try {
    const ids = (sql: string) =>
      db
        .prepare(sql)
        .all()
        .map((row) => Object.values(row).join(' '));
    return [
      ...ids(`SELECT 'vm', id, state FROM vms`),
      ...ids(`SELECT 'operation', vm_id, kind FROM operations`),
      ...ids(`SELECT 'snapshot', id, role FROM snapshots`),
    ];
  } finally {
    db.close();
  }
}

/** Control groups of the data directory's VMs. */
export async function cgroups(home: string): Promise<string[]> {
  const instance = createHash('sha256').update(home).digest('hex').slice(0, 12);
  const found = new Set<string>();
  for (const root of ['/sys/fs/cgroup/cpu', '/sys/fs/cgroup/memory', '/sys/fs/cgroup'])
    for (const entry of await readdir(join(root, 'berth', instance), { withFileTypes: true }).catch(() => []))
      if (entry.isDirectory()) found.add(entry.name);
  return [...found];
}
