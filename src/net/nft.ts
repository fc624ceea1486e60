import { CommandError } from '../common/command.ts';
import { runHostTool } from './host-tool.ts';

/** Applies commands as one transaction: all of them or none. */
export async function applyNft(commands: string): Promise<void> {
  await runHostTool('nft', ['-f', '-'], { input: commands });
}

/** Whether the table and its set hold an element, e.g. `bridge berth_berth0 owners { "berth0-2" . 02:… }`. */
export async function hasNftElement(element: string): Promise<boolean> {
  try {
    await runHostTool('nft', ['get', 'element', ...element.split(' ')]);
    return true;
  } catch (error) {
    if (error instanceof CommandError && error.stderr.includes('No such file or directory')) return false;
    throw error;
  }
}

/** Names of all tables, of any family. */
export async function listTableNames(): Promise<readonly string[]> {
  const { stdout } = await runHostTool('nft', ['list', 'tables']);
  return [...stdout.matchAll(/^table \S+ (\S+)$/gm)].map((match) => match[1] ?? '');
}
