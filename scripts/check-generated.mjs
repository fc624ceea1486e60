/**
 * Checks that what is generated from proto/ is what is committed: generates it anew beside it and compares. Run:
 * `node scripts/check-generated.mjs`; with --write the committed files are replaced.
 */

import { spawnSync } from 'node:child_process';
import { globSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { delimiter, dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const generated = 'src/api/metald/gen';

/** Runs buf; what it generates goes below `base`, where the configuration has it relative to proto/. */
function generate(base) {
  const tools = join(root, 'node_modules', '.bin');
  const { status, stderr } = spawnSync(join(tools, 'buf'), ['generate', '-o', join(base, 'proto')], {
    cwd: join(root, 'proto'),
    env: { ...process.env, PATH: [tools, process.env.PATH].join(delimiter) },
    encoding: 'utf8',
  });
  if (status !== 0) throw new Error(`buf generate failed: ${stderr}`);
}

function filesOf(base) {
  const directory = join(base, generated);
  const names = globSync('**/*_pb.*', { cwd: directory }).sort();
  return new Map(names.map((name) => [name, readFileSync(join(directory, name), 'utf8')]));
}

if (process.argv.includes('--write')) {
  generate(root);
} else {
  const scratch = mkdtempSync(join(tmpdir(), 'berth-generated-'));
  try {
    generate(scratch);
    const [fresh, committed] = [filesOf(scratch), filesOf(root)];
    const names = new Set([...fresh.keys(), ...committed.keys()]);
    const different = [...names].filter((name) => fresh.get(name) !== committed.get(name));
    for (const name of different) console.error(`${generated}/${name} is not what proto/ generates`);
    console.log(`${names.size} generated files, ${different.length} differ`);
    process.exitCode = names.size > 0 && different.length === 0 ? 0 : 1;
  } finally {
    rmSync(scratch, { recursive: true });
  }
}
