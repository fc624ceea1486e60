/**
 * Checks which room of src/ imports which. The arrows are those of docs/architecture.md; an import that is not listed here
 * is an error, `import type` included. Tests may import anything. Run: `node scripts/check-layers.mjs`.
 */

import { globSync, readFileSync } from 'node:fs';
import { dirname, join, normalize } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const anyRoom = null;

/** Room -> the other rooms it may import. */
const arrows = {
  common: [],
  attest: ['common'],
  kms: ['common', 'attest', 'api'],
  agent: ['common', 'attest', 'kms', 'api'],
  disk: ['common'],
  engine: ['common'],
  guest: ['common'],
  image: ['common'],
  net: ['common', 'engine'],
  store: ['common', 'vm'],
  snapshot: ['common', 'engine'],
  vm: ['common', 'disk', 'engine', 'guest', 'image', 'net', 'snapshot', 'store'],
  api: ['common', 'guest', 'image', 'net', 'vm'],
  daemon: anyRoom,
  cli: anyRoom,
};

/** Rooms that may name an engine's implementation, `engine/<name>/`, and not its interface alone. */
const wiring = ['daemon', 'cli'];

/** The codec that several APIs speak. Rooms that are not APIs may use it, and nothing else of `api`. */
const sharedCodec = 'prpc';

/** The paths a module imports, as written. */
function importsOf(text) {
  const pattern =
    /(?:^|\n)\s*(?:import|export)\s[^;'"]*?from\s+['"]([^'"]+)['"]|\bimport\(\s*['"]([^'"]+)['"]|(?:^|\n)import\s+['"]([^'"]+)['"]/g;
  return Array.from(text.matchAll(pattern), (match) => match[1] ?? match[2] ?? match[3]);
}

/** Why `from` may not import `to` (paths below src/), or null when it may. */
function objection(from, to) {
  const [fromRoom, fromPart] = from.split('/');
  const [toRoom, toPart, ...rest] = to.split('/');
  if (!Object.hasOwn(arrows, fromRoom)) return `the room ${fromRoom} is not in scripts/check-layers.mjs`;
  if (fromRoom === toRoom) {
    const siblings =
      fromRoom === 'api' &&
      rest.length > 0 &&
      fromPart !== toPart &&
      toPart !== sharedCodec &&
      from.split('/').length > 2;
    return siblings ? 'an API knows no other API' : null;
  }
  if (toRoom === 'engine' && rest.length > 0 && !wiring.includes(fromRoom)) return 'only wiring may name an engine';
  if (toRoom === 'api' && toPart !== sharedCodec && arrows[fromRoom] !== anyRoom) return 'only the codec is for others';
  const allowed = arrows[fromRoom];
  return allowed === anyRoom || allowed.includes(toRoom) ? null : `${fromRoom} may not import ${toRoom}`;
}

const files = globSync('**/*.ts', { cwd: join(root, 'src') }).filter(
  (file) => !file.endsWith('.test.ts') && !file.split('/').includes('testing'),
);
const problems = [];
for (const file of files) {
  for (const imported of importsOf(readFileSync(join(root, 'src', file), 'utf8'))) {
    if (!imported.startsWith('.')) continue;
    const target = normalize(join(dirname(file), imported));
    const reason = target.startsWith('..') ? 'src/ stands alone' : objection(file, target);
    if (reason !== null) problems.push(`src/${file} imports ${imported}: ${reason}`);
    else if (target.split('/').includes('testing')) problems.push(`src/${file} imports ${imported}: it is for tests`);
  }
}
for (const problem of problems.sort()) console.error(problem);
console.log(`${files.length} modules, ${problems.length} imports against the layers`);
process.exitCode = problems.length === 0 ? 0 : 1;
