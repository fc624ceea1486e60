import type { Config } from '../daemon/settings.ts';
import { callDaemon } from './daemon-client.ts';

/** Copies a running VM and prints the id of each copy. */
export async function forkVm(config: Config, id: string, count: number): Promise<void> {
  const path = `/v1/vms/${encodeURIComponent(id)}/fork`;
  const copies = (await callDaemon(config, 'POST', path, { count })) as readonly { readonly id: string }[];
  for (const copy of copies) console.log(copy.id);
}
