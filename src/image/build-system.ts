/** What makes the root file system a particular machine's: accounts, directories, files; and what must not stay in it. */

import { appendFile, chmod, chown, cp, lutimes, mkdir, readdir, rm, symlink, utimes } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { exists } from '../common/files.ts';
import type { BuildContext } from './build-context.ts';
import { walk } from './walk.ts';

/** Names in a build's own leavings, relative to the root: caches, logs, backups, identities. */
const leavings = [
  'etc/.pwd.lock',
  'etc/group-',
  'etc/gshadow-',
  'etc/machine-id',
  'etc/passwd-',
  'etc/resolv.conf',
  'etc/shadow-',
  'etc/subgid-',
  'etc/subuid-',
  'var/cache/ldconfig/aux-cache',
  'var/lib/apt/extended_states',
  'var/lib/dbus/machine-id',
  'var/lib/dpkg/lock',
  'var/lib/dpkg/lock-frontend',
  'var/lib/dpkg/triggers/Lock',
  'var/lib/systemd/random-seed',
];
const emptied = ['dev', 'run', 'tmp', 'var/cache/apt', 'var/cache/debconf', 'var/lib/apt/lists', 'var/log', 'var/tmp'];
const backups = ['var/lib/dpkg'];

export async function configureSystem(context: BuildContext): Promise<void> {
  context.detail('accounts and files');
  const { root, recipe } = context;
  await removeLeavings(root);
  for (const user of recipe.data.users) await addUser(root, user);
  for (const { path, owner, mode } of recipe.data.directories) {
    const target = join(root, path);
    await mkdir(target, { recursive: true });
    await chown(target, owner, owner);
    await chmod(target, Number.parseInt(mode, 8));
  }
  for (const { path, target } of recipe.data.links) {
    await mkdir(dirname(join(root, path)), { recursive: true });
    await symlink(target, join(root, path));
  }
  await layFiles(join(recipe.dir, 'files'), root, recipe.data.timestamp);
}

/**
 * Gives everything made since `startedMs` the recipe's modification time; what packages brought keeps its own, which
 * Python's compiled files refer to.
 */
export async function settleModified(context: BuildContext, startedMs: number): Promise<void> {
  for await (const { path, stat } of walk(context.root)) {
    const time = stat.mtimeMs >= startedMs ? context.recipe.data.timestamp : Math.floor(stat.mtimeMs / 1000);
    await lutimes(path, time, time);
  }
}

async function removeLeavings(root: string): Promise<void> {
  for (const path of leavings) await rm(join(root, path), { force: true });
  for (const path of emptied) {
    const dir = join(root, path);
    for (const name of await namesIn(dir)) await rm(join(dir, name), { recursive: true, force: true });
  }
  for (const path of backups) {
    for (const name of await namesIn(join(root, path))) if (name.endsWith('-old')) await rm(join(root, path, name));
  }
  for (const name of await namesIn(join(root, 'etc', 'ssh'))) {
    if (name.startsWith('ssh_host_')) await rm(join(root, 'etc', 'ssh', name));
  }
}

/** A small variant lacks some of the directories. */
async function namesIn(dir: string): Promise<string[]> {
  return (await exists(dir)) ? await readdir(dir) : [];
}

async function addUser(
  root: string,
  {
    name,
    id,
    home,
    shell,
  }: { readonly name: string; readonly id: number; readonly home: string; readonly shell: string },
): Promise<void> {
  // No password: the account is used through the guest channel, never by logging in.
  await append(root, 'etc/passwd', `${name}:x:${id}:${id}::${home}:${shell}\n`, 0o644);
  await append(root, 'etc/group', `${name}:x:${id}:\n`, 0o644);
  await append(root, 'etc/shadow', `${name}:!:19000:0:99999:7:::\n`, 0o640);
  await append(root, 'etc/gshadow', `${name}:!::\n`, 0o640);
}

async function append(root: string, path: string, line: string, mode: number): Promise<void> {
  await mkdir(dirname(join(root, path)), { recursive: true });
  await appendFile(join(root, path), line, { mode });
}

/** Copies a recipe's `files/` over the root: owned by root, executable where the original is, readable by all. */
async function layFiles(source: string, root: string, timestamp: number): Promise<void> {
  if (!(await exists(source))) return;
  await cp(source, root, { recursive: true, force: true, verbatimSymlinks: true });
  for await (const { path, stat } of walk(source)) {
    if (!stat.isFile()) continue;
    const target = join(root, path.slice(source.length));
    await chown(target, 0, 0);
    await chmod(target, stat.mode & 0o100 ? 0o755 : 0o644);
    await utimes(target, timestamp, timestamp);
  }
}
