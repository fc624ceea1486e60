import { chmodSync, existsSync } from 'node:fs';
import { mkdir, readFile, realpath } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { writeFileAtomic } from '../common/files.ts';
import { uidCount } from '../vm/leases.ts';

/** Which data directory has which uids, for all daemons of the host. It outlives a reboot, as the directories do. */
const hostRegistry = '/var/lib/berth-host/uids.db';

/** User ids end here: the kernel has 32 bits, and many programs take the upper half for negative. */
const endOfUids = 2 ** 31;

/** How long a daemon waits for others that claim at the same time, ms; one claim takes about one. */
const busyTimeoutMs = 30_000;

interface Block {
  readonly base: number;
  readonly home: string;
}

/**
 * The first of the 10000 uids that are this data directory's alone on the host. Blocks begin at `first` or above it; the
 * lowest that overlaps none is taken. A directory keeps its block for as long as it exists, running or not, also when it is
 * moved: VMs keep the uids that own their files.
 *
 * Who claims for one directory at the same time is given the same.
 *
 * @throws Error when no uids are left, or the registry cannot be written
 */
export async function claimUidBlock(home: string, first: number, registry = hostRegistry): Promise<number> {
  const path = await realpath(home);
  const memo = join(path, 'uid-base');
  const remembered = await readMemo(memo);
  await mkdir(dirname(registry), { recursive: true, mode: 0o700 });
  const base = claim(registry, path, first, remembered);
  if (base !== remembered) await writeFileAtomic(memo, `${base}\n`, 0o600);
  return base;
}

function claim(registry: string, home: string, first: number, remembered: number | null): number {
  using db = new DatabaseSync(registry, { timeout: busyTimeoutMs });
  chmodSync(registry, 0o600);
  db.exec('BEGIN IMMEDIATE');
  // Without the commit below, closing the connection takes everything back.
  db.exec('CREATE TABLE IF NOT EXISTS blocks (base INTEGER PRIMARY KEY, home TEXT NOT NULL) STRICT');
  const rows = db.prepare('SELECT base, home FROM blocks ORDER BY base').all() as unknown as Block[];
  const blocks = rows.filter((block) => existsSync(block.home));
  const drop = db.prepare('DELETE FROM blocks WHERE base = ?');
  for (const block of rows) if (!blocks.includes(block)) drop.run(block.base);

  // A directory may have several: one for each first uid it was ever run with.
  const own = blocks.find((block) => block.home === home && block.base >= first);
  const base = own?.base ?? chooseBase(blocks, first, remembered);
  if (!own) db.prepare('INSERT INTO blocks (base, home) VALUES (?, ?)').run(base, home);
  db.exec('COMMIT');
  return base;
}

/** What a moved directory had, unless somebody else has it by now; otherwise the first gap. `blocks` are in order. */
function chooseBase(blocks: readonly Block[], first: number, remembered: number | null): number {
  const candidates = [...(remembered === null ? [] : [remembered]), first, ...blocks.map(endOf)];
  const base = candidates.find(
    (candidate) =>
      candidate >= first &&
      candidate + uidCount <= endOfUids &&
      blocks.every((block) => Math.abs(block.base - candidate) >= uidCount),
  );
  if (base === undefined)
    throw new Error(`no ${uidCount} user ids are left from ${first} on; choose another engine.uid_base`);
  return base;
}

function endOf(block: Block): number {
  return block.base + uidCount;
}

async function readMemo(path: string): Promise<number | null> {
  try {
    const text = (await readFile(path, 'utf8')).trim();
    return /^\d{1,10}$/.test(text) ? Number(text) : null;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return null;
    throw error;
  }
}
