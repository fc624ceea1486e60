import { readFile } from 'node:fs/promises';

const guide = new URL('../../../docs/guest-agent.md', import.meta.url);

/** The example of docs/guest-agent.md that has these words, as it stands there. Throws unless there is one. */
export async function guideExample(words: string): Promise<string> {
  const examples = (await readFile(guide, 'utf8')).match(/(?<=^\n)(?: {4}.*\n|\n(?= {4}))+/gm) ?? [];
  const found = examples.filter((example) => example.includes(words));
  if (found.length !== 1) throw new Error(`${found.length} examples of the guide have ${words}`);
  return found[0]!.replace(/^ {4}/gm, '');
}
