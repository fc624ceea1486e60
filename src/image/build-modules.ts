/** Kernel modules of the root file system: those a guest has a use for, and all they depend on. */

import { copyFile, mkdir, readFile, rm } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { runBuildCommand } from './build-command.ts';
import type { BuildContext } from './build-context.ts';

const lists = ['modules.builtin', 'modules.builtin.modinfo', 'modules.order'];

/** Paths that begin with one of `prefixes` under `kernel/`, and what they need, from the text of modules.dep. */
export function selectModules(dependencies: string, prefixes: readonly string[]): string[] {
  const needs = new Map<string, string[]>();
  for (const line of dependencies.split('\n')) {
    const colon = line.indexOf(':');
    if (colon > 0)
      needs.set(
        line.slice(0, colon),
        line
          .slice(colon + 1)
          .split(' ')
          .filter(Boolean),
      );
  }
  const selected = new Set<string>();
  for (const [path, needed] of needs) {
    // modules.dep lists all a module needs, not the next step only.
    if (prefixes.some((prefix) => path.startsWith(`kernel/${prefix}`)))
      for (const each of [path, ...needed]) selected.add(each);
  }
  return [...selected].sort();
}

/** Copies what `prefixes` ask for from `source`, a whole module tree, to /lib/modules/`release` of the root. */
export async function installModules(
  context: BuildContext,
  source: string,
  release: string,
  prefixes: readonly string[],
): Promise<void> {
  context.detail('kernel modules');
  const target = join(context.root, 'usr', 'lib', 'modules', release);
  const all = join(context.root, 'tmp', 'modules', 'lib', 'modules', release);
  // depmod comes with the new system: the host needs none.
  const depmod = (...args: readonly string[]) =>
    runBuildCommand('chroot', [context.root, 'depmod', ...args, release], { signal: context.signal });
  await mkdir(dirname(all), { recursive: true });
  await runBuildCommand('cp', ['-a', source, all], { signal: context.signal });
  await depmod('--basedir', '/tmp/modules');
  for (const path of selectModules(await readFile(join(all, 'modules.dep'), 'utf8'), prefixes)) {
    await mkdir(dirname(join(target, path)), { recursive: true });
    await copyFile(join(source, path), join(target, path));
  }
  for (const name of lists) await copyFile(join(source, name), join(target, name));
  await rm(join(context.root, 'tmp', 'modules'), { recursive: true });
  await depmod();
}
