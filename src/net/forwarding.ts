import { readdir, readFile, writeFile } from 'node:fs/promises';
import { exists } from '../common/files.ts';

const forwarding4 = '/proc/sys/net/ipv4/ip_forward';
const forwarding6 = '/proc/sys/net/ipv6/conf/all/forwarding';
const interfaces6 = '/proc/sys/net/ipv6/conf';

/**
 * Lets the host route packets. It stays on for good: whether somebody else has come to need it cannot be known.
 *
 * @throws Error when the kernel's settings cannot be written, as in containers that mount them read-only.
 */
export async function enableForwarding(ipv6: boolean): Promise<void> {
  await writeSetting(forwarding4, '1');
  if (!ipv6 || (await readSetting(forwarding6)) === '1') return;
  await keepRouterAdvertisements();
  await writeSetting(forwarding6, '1');
}

/** Which of the two families the host routes; null: the kernel has no such family. */
export async function readForwarding(): Promise<{ readonly ipv4: boolean; readonly ipv6: boolean | null }> {
  return {
    ipv4: (await readSetting(forwarding4)) === '1',
    ipv6: (await exists(forwarding6)) ? (await readSetting(forwarding6)) === '1' : null,
  };
}

/** A router ignores router advertisements unless told otherwise (accept_ra=2): the host would lose its own IPv6 route. */
async function keepRouterAdvertisements(): Promise<void> {
  for (const name of await readdir(interfaces6)) {
    const path = `${interfaces6}/${name}/accept_ra`;
    if (name !== 'all' && (await readSetting(path)) === '1') await writeSetting(path, '2');
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
