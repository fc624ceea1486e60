import { readFile } from 'node:fs/promises';
import { CommandError } from '../common/command.ts';
import { runHostTool } from './host-tool.ts';

/** What `ip -j -d addr show` says of an interface, as far as it is used here. */
export interface Link {
  readonly ifname: string;
  readonly flags: readonly string[];
  readonly address?: string;
  readonly master?: string;
  readonly linkinfo?: {
    readonly info_kind?: string;
    readonly info_slave_data?: { readonly isolated?: boolean };
  };
  readonly addr_info?: readonly {
    readonly family: string;
    readonly local: string;
    readonly prefixlen: number;
    readonly scope: string;
  }[];
}

interface Neighbour {
  readonly dst: string;
  readonly lladdr?: string;
}

/** Runs `ip` commands, one a line, in one process; stops at the first that fails. */
export async function runIpBatch(lines: readonly string[]): Promise<void> {
  if (lines.length > 0) await runHostTool('ip', ['-batch', '-'], { input: `${lines.join('\n')}\n` });
}

/** Runs `ip` commands that remove things, all of them; what is already gone is no failure. */
export async function runIpRemovals(lines: readonly string[]): Promise<void> {
  if (lines.length === 0) return;
  try {
    await runHostTool('ip', ['-force', '-batch', '-'], { input: `${lines.join('\n')}\n` });
  } catch (error) {
    if (!(error instanceof CommandError) || !meansAllGone(error.stderr)) throw error;
  }
}

function meansAllGone(stderr: string): boolean {
  const lines = stderr.split('\n').filter((line) => line !== '' && !line.startsWith('Command failed -:'));
  return lines.length > 0 && lines.every((line) => /^(Cannot find device|RTNETLINK answers: No such file)/.test(line));
}

/** Names of all interfaces of this network namespace. */
export async function listLinkNames(): Promise<readonly string[]> {
  const table = await readFile('/proc/self/net/dev', 'utf8');
  return [...table.matchAll(/^ *([^:\s|]+):/gm)].map((match) => match[1] ?? '');
}

/** An interface with its addresses, or null when there is none of that name. */
export async function showLink(name: string): Promise<Link | null> {
  if (!(await listLinkNames()).includes(name)) return null;
  const links = await ipJson<Link>(['-d', 'addr', 'show', 'dev', name]);
  return links[0] ?? null;
}

/** The permanent neighbour entries of an interface: IP address to MAC. */
export async function permanentNeighbours(dev: string): Promise<ReadonlyMap<string, string>> {
  const neighbours = await ipJson<Neighbour>(['neigh', 'show', 'dev', dev, 'nud', 'permanent']);
  return new Map(neighbours.map(({ dst, lladdr }) => [dst, lladdr ?? '']));
}

/** `ip -j` prints nothing at all, instead of an empty list, where there is nothing to show. */
export async function ipJson<T>(args: readonly string[]): Promise<readonly T[]> {
  const { stdout } = await runHostTool('ip', ['-j', ...args]);
  return stdout.trim() === '' ? [] : (JSON.parse(stdout) as T[]);
}
