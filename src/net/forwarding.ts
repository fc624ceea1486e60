import { readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { z } from 'zod';
import { exists, writeFileAtomic } from '../common/files.ts';

const forwarding4 = '/proc/sys/net/ipv4/ip_forward';
const forwarding6 = '/proc/sys/net/ipv6/conf/all/forwarding';
const interfaces6 = '/proc/sys/net/ipv6/conf';

/** Kernel settings by path, as they were before they were changed. */
const changesSchema = z.record(z.string(), z.string());

/**
 * Lets the host route packets. What is changed for that is noted in the file `memo`, for {@link restoreForwarding}.
 *
 * @throws Error when the kernel's settings cannot be written, as in containers that mount them read-only.
 */
export async function enableForwarding(ipv6: boolean, memo: string): Promise<void> {
  const wanted = new Map([[forwarding4, '1']]);
  if (ipv6 && (await readSetting(forwarding6)) !== '1') {
    // Whoever routes ignores router advertisements unless told otherwise: the host would lose its own IPv6 route.
    for (const path of await acceptingRouters()) wanted.set(path, '2');
    wanted.set(forwarding6, '1');
  }
  const before: Record<string, string> = {};
  for (const [path, value] of wanted) {
    const present = await readSetting(path);
    if (present !== value) before[path] = present;
  }
  if (Object.keys(before).length === 0) return;
  // What an earlier change has noted is older, and stays.
  await writeFileAtomic(memo, JSON.stringify({ ...before, ...(await readMemo(memo)) }));
  for (const [path, value] of wanted) await writeSetting(path, value);
}

/** Puts back what {@link enableForwarding} changed, unless `isNeeded`: then it stays, and is nobody's to put back. */
export async function restoreForwarding(memo: string, isNeeded: boolean): Promise<void> {
  if (!isNeeded)
    // An interface may have gone meanwhile, its settings with it.
    for (const [path, value] of Object.entries(await readMemo(memo)).toReversed())
      if (await exists(path)) await writeSetting(path, value);
  await rm(memo, { force: true });
}

/** Which of the two families the host routes; null: the kernel has no such family. */
export async function readForwarding(): Promise<{ readonly ipv4: boolean; readonly ipv6: boolean | null }> {
  return {
    ipv4: (await readSetting(forwarding4)) === '1',
    ipv6: (await exists(forwarding6)) ? (await readSetting(forwarding6)) === '1' : null,
  };
}

async function acceptingRouters(): Promise<readonly string[]> {
  const paths = (await readdir(interfaces6))
    .filter((name) => name !== 'all')
    .map((name) => `${interfaces6}/${name}/accept_ra`);
  const values = await Promise.all(paths.map(readSetting));
  return paths.filter((_, index) => values[index] === '1');
}

async function readMemo(memo: string): Promise<Readonly<Record<string, string>>> {
  try {
    return changesSchema.parse(JSON.parse(await readFile(memo, 'utf8')));
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return {};
    throw error;
  }
}

async function readSetting(path: string): Promise<string> {
  return (await readFile(path, 'utf8')).trim();
}

async function writeSetting(path: string, value: string): Promise<void> {
  if ((await readSetting(path)) === value) return;
  try {
    await writeFile(path, value);
  } catch (error) {
    throw new Error(`${path} must be ${value} and cannot be written`, { cause: error });
  }
}
