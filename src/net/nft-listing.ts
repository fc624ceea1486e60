import { isDeepStrictEqual } from 'node:util';
import { CommandError } from '../common/command.ts';
import { runHostTool } from './host-tool.ts';

/**
 * What is in the two tables, in a form that is equal for equal rules: handles left out, rules in their order within each
 * chain, everything else sorted.
 */
export type NftListing = ReadonlyMap<string, readonly string[]>;

const families = ['bridge', 'inet'] as const;

type Item = Readonly<Record<string, Readonly<Record<string, unknown>>>>;

/** What is in the tables of this name now; null when one of them is not there. */
export async function listTables(table: string): Promise<NftListing | null> {
  const outputs: string[] = [];
  for (const family of families) {
    try {
      outputs.push((await runHostTool('nft', ['-j', '-s', 'list', 'table', family, table])).stdout);
    } catch (error) {
      if (error instanceof CommandError && error.stderr.includes('No such file or directory')) return null;
      throw error;
    }
  }
  return parse(outputs);
}

/**
 * What {@link listTables} says after `ruleset` has been applied. `nft` does not print rules as they were written, so they
 * are applied to a network namespace that holds nothing else and goes with the command.
 */
export async function listRuleset(table: string, ruleset: string): Promise<NftListing> {
  const listings = families.map((family) => `nft -j -s list table ${family} ${table}`);
  const script = ['nft -f -', ...listings].join(' && ');
  const { stdout } = await runHostTool('unshare', ['--net', '--', 'sh', '-c', script], { input: ruleset });
  return parse(stdout.trim().split('\n'));
}

/** Whether nothing was added, removed or changed. */
export function isSameListing(one: NftListing | null, other: NftListing | null): boolean {
  return isDeepStrictEqual(one, other);
}

function parse(outputs: readonly string[]): NftListing {
  const listing = new Map<string, string[]>();
  const items = outputs.flatMap((output) => (JSON.parse(output) as { readonly nftables: readonly Item[] }).nftables);
  for (const item of items) {
    for (const [kind, value] of Object.entries(item)) {
      if (kind === 'metainfo') continue;
      const { handle: _, ...rest } = value;
      const place = kind === 'rule' ? `rule ${value.family} ${value.chain}` : kind;
      const texts = listing.get(place) ?? [];
      texts.push(JSON.stringify(withSortedElements(rest)));
      listing.set(place, texts);
    }
  }
  for (const [place, texts] of listing) if (!place.startsWith('rule ')) texts.sort();
  return listing;
}

function withSortedElements(value: Readonly<Record<string, unknown>>): Readonly<Record<string, unknown>> {
  if (!Array.isArray(value.elem)) return value;
  return { ...value, elem: value.elem.map((element) => JSON.stringify(element)).sort() };
}
