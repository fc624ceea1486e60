import { open, readdir, readFile, stat } from 'node:fs/promises';
import { basename, join, relative } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { runCommand } from '../../../src/common/command.ts';
import { cgroups, rules, taps } from '../leftovers.ts';

/** Columns that differ from one time to the next without anything being wrong. */
const volatileColumns = new Set(['seq', 'reason', 'renewal', 'bytes', 'start_mode']);
/** Tables of what was said and done, which nothing hangs on. */
const chronicles = new Set(['activity', 'exec_log']);

/**
 * All that a data directory and its VMs have on the host, as sorted lines that can be compared with those of another
 * moment: every row of every table, every file with its mode and owner, processes, taps, addresses in rules and neighbour
 * tables, control groups. What is made anew each time (ids, times) is told by its place: `vm#1` is the oldest VM, and an
 * id that no row has is `stray`. Disk layers are told by whether they are one whole chain, not by their number.
 */
export async function inventory(home: string): Promise<readonly string[]> {
  const { lines: rows, rename } = readRows(join(home, 'berth.db'));
  const found = [
    ...rows,
    ...(await files(home)),
    ...(await processes(home)),
    ...(await taps()).map((tap) => `tap ${tap}`),
    ...(await rules()).map((address) => `rule ${address}`),
    ...(await neighbours()).map((address) => `neighbour ${address}`),
    ...(await cgroups(home)).map((id) => `cgroup ${id}`),
  ];
  return found.map(rename).sort();
}

interface Rows {
  readonly lines: readonly string[];
  /** Replaces ids and times in a text. */
  readonly rename: (text: string) => string;
}

function readRows(path: string): Rows {
  const db = new DatabaseSync(path, { readOnly: true });
  try {
    const all = (sql: string) => db.prepare(sql).all() as Record<string, unknown>[];
    const places = new Map<string, string>();
    for (const [table, kind] of [
      ['vms', 'vm'],
      ['snapshots', 'snap'],
      ['images', 'img'],
    ])
      for (const [index, { id }] of all(`SELECT id FROM ${table} ORDER BY seq`).entries()) {
        places.set(String(id), `${kind}#${index + 1}`);
        if (table === 'vms') places.set(`vm-${String(id).slice(0, 8)}`, `name of vm#${index + 1}`);
      }
    const lines = all(`SELECT name FROM sqlite_master WHERE type = 'table'`)
      .map(({ name }) => String(name))
      .filter((name) => !chronicles.has(name) && !name.startsWith('sqlite_'))
      .flatMap((table) =>
        all(`SELECT * FROM "${table}"`).map((row) => {
          const cells = Object.entries(row).filter(([column]) => !volatileColumns.has(column));
          return `row ${table}: ${cells.map(([column, value]) => `${column}=${value}`).join(' ')}`;
        }),
      );
    return { lines, rename: (text) => renamed(text, places) };
  } finally {
    db.close();
  }
}

function renamed(text: string, places: ReadonlyMap<string, string>): string {
  let result = text.replaceAll(/\d{4}-\d\d-\d\dT[\d:.]+Z/g, 'then');
  for (const [id, place] of places) result = result.replaceAll(id, place);
  return result
    .replaceAll(/layer-[0-9a-f-]{36}\.qcow2/g, 'layer')
    .replaceAll(/((img|snap)-)?[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}/g, 'stray');
}

async function files(home: string): Promise<string[]> {
  const lines: string[] = [];
  const walk = async (dir: string): Promise<void> => {
    const entries = await readdir(dir, { withFileTypes: true });
    const layers = entries.map(({ name }) => name).filter(isLayer);
    if (layers.length > 0) lines.push(`file ${relative(home, dir)}/layers: ${await describeLayers(dir, layers)}`);
    for (const entry of entries) {
      const path = join(dir, entry.name);
      // SQLite has these while the database is open.
      if (/-(wal|shm|journal)$/.test(entry.name) || isLayer(entry.name)) continue;
      lines.push(`file ${relative(home, path)}${entry.isDirectory() ? '/' : ''} ${await rights(path)}`);
      if (entry.isDirectory()) await walk(path);
    }
  };
  await walk(home);
  return lines;
}

async function rights(path: string): Promise<string> {
  const { mode, uid } = await stat(path);
  return `${(mode & 0o777).toString(8)} ${uid === process.getuid?.() ? 'ours' : "the VM's"}`;
}

function isLayer(name: string): boolean {
  return name.startsWith('layer-') && name.endsWith('.qcow2');
}

/** Whether the layers in a directory stand one on the other, all of them, with the manifest's on top. */
async function describeLayers(dir: string, layers: readonly string[]): Promise<string> {
  const below = new Map(
    await Promise.all(layers.map(async (layer) => [layer, await backing(join(dir, layer))] as const)),
  );
  const tops = layers.filter((layer) => ![...below.values()].includes(layer));
  const manifest = await readFile(join(dir, 'manifest.json'), 'utf8').catch(() => null);
  const named = manifest === null ? tops[0] : (JSON.parse(manifest) as { layer: string }).layer;
  let length = 0;
  let at = named ?? '';
  for (; below.has(at) && length <= layers.length; at = below.get(at)!) length++;
  const isWhole = tops.length === 1 && tops[0] === named && length === layers.length && at === 'base.ext4';
  return isWhole ? `one chain, top ${await rights(join(dir, tops[0]!))}` : `NO CHAIN: ${layers}, manifest ${named}`;
}

/** The name of the image below, from a qcow2 header. */
async function backing(path: string): Promise<string> {
  const file = await open(path, 'r');
  try {
    const { buffer } = await file.read(Buffer.alloc(4096), 0, 4096, 0);
    const offset = Number(buffer.readBigUInt64BE(8));
    return buffer.toString('latin1', offset, offset + buffer.readUInt32BE(16));
  } finally {
    await file.close();
  }
}

/** Every process whose command line names the data directory, but those that drive the test. */
async function processes(home: string): Promise<string[]> {
  const lines: string[] = [];
  for (const pid of await readdir('/proc')) {
    if (!/^\d+$/.test(pid)) continue;
    const command = await readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '');
    if (!command.includes(home) || command.includes('room/process.ts')) continue;
    const id = command.slice(command.indexOf(home) + home.length).match(/[0-9a-f]{8}(-[0-9a-f]+){4}/)?.[0] ?? '';
    lines.push(`process ${basename(command.split(/[\0 ]/)[0]!)} ${id}`);
  }
  return lines;
}

/** Addresses that the host holds for VMs for good. */
async function neighbours(): Promise<string[]> {
  const { stdout } = await runCommand('ip', ['-j', 'neigh', 'show', 'nud', 'permanent']);
  if (stdout.trim() === '') return [];
  return (JSON.parse(stdout) as { dst: string; dev: string }[])
    .filter(({ dev }) => dev.startsWith('berth'))
    .map(({ dst }) => dst);
}
