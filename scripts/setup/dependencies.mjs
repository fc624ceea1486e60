/** npm dependencies, the pinned Node among them. */

import { existsSync, readFileSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import { SetupError } from './steps.mjs';

/** Path of the Node that everything after set-up runs on. */
export function pinnedNode(root) {
  return join(root, 'node_modules', 'node', 'bin', 'node');
}

/**
 * Makes node_modules what package-lock.json says. Not with `npm ci`: it wants every platform's optional packages in the
 * lock, and registries that mirror a part of npm's cannot give them. What comes out is held against the lock instead.
 */
export async function ensureDependencies(step, root) {
  if (installed(root)) return;
  step.progress('npm install');
  // node_modules may be replaced: npm must not run on the Node that is in it.
  const path = (process.env.PATH ?? '').split(delimiter).filter((entry) => !entry.includes('node_modules'));
  await step.command('npm', ['install', '--no-save', '--no-audit', '--no-fund', '--loglevel=http'], {
    cwd: root,
    env: { ...process.env, PATH: path.join(delimiter) },
  });
  if (!installed(root)) throw new SetupError('npm did not install what package-lock.json says: is it out of date?');
}

/** npm notes what it installed in node_modules/.package-lock.json; that is compared, so an interrupted install shows. */
function installed(root) {
  const hidden = join(root, 'node_modules', '.package-lock.json');
  if (!existsSync(hidden) || !existsSync(pinnedNode(root))) return false;
  const have = JSON.parse(readFileSync(hidden, 'utf8')).packages;
  const want = JSON.parse(readFileSync(join(root, 'package-lock.json'), 'utf8')).packages;
  return Object.entries(want).every(([path, entry]) => {
    if (path === '') return true;
    const found = have[path];
    // Optional packages are for other platforms as often as not.
    if (found === undefined) return entry.optional === true;
    return found.version === entry.version && found.integrity === entry.integrity;
  });
}
