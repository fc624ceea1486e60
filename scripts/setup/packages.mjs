/** Debian packages: which are missing, and getting them. */

import { spawnSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { SetupError } from './steps.mjs';

const aptLists = '/var/lib/apt/lists';

/** Names in a package list that hold for `scope` (see packages.txt). */
export function parsePackages(text, scope) {
  const names = [];
  for (const raw of text.split('\n')) {
    const line = raw.replace(/#.*/, '').trim();
    if (line === '') continue;
    const [first, second] = line.split(':');
    if (second === undefined) names.push(first);
    else if (first === scope) names.push(second);
  }
  return names;
}

/** Installs what `listFile` asks for and is not there. Throws {@link SetupError} with the exact command when it may not. */
export async function ensurePackages(step, listFile, scope) {
  const missing = missingPackages(parsePackages(readFileSync(listFile, 'utf8'), scope));
  if (missing.length === 0) return;
  const install = ['install', '--yes', '--no-install-recommends', '-o', 'DPkg::Lock::Timeout=300', ...missing];
  if (process.getuid() !== 0) {
    throw new SetupError(
      `Debian packages are missing. Install them as root, then try again:\n  apt-get ${install.join(' ')}`,
    );
  }
  const options = { env: { ...process.env, DEBIAN_FRONTEND: 'noninteractive', LC_ALL: 'C.UTF-8' } };
  const update = () => step.command('apt-get', ['update'], options);
  step.progress(`installing ${missing.join(' ')}`);
  const stale = !readdirSync(aptLists).some((name) => name.endsWith('_Packages') || name.includes('_Packages.'));
  if (stale) await update();
  try {
    await step.command('apt-get', install, options);
  } catch (error) {
    if (stale) throw error;
    // Old lists name versions that mirrors no longer carry.
    await update();
    await step.command('apt-get', install, options);
  }
}

function missingPackages(names) {
  // biome-ignore lint/suspicious/noTemplateCurlyInString: dpkg-query's own placeholders.
  const query = spawnSync('dpkg-query', ['--show', '--showformat=${Package} ${db:Status-Status}\n', ...names], {
    encoding: 'utf8',
  });
  if (query.error !== undefined) {
    throw new SetupError(`This is not a Debian machine. Install the equivalents of: ${names.join(' ')}`);
  }
  const installed = new Set();
  for (const line of query.stdout.split('\n')) {
    const [name, status] = line.split(' ');
    if (status === 'installed') installed.add(name);
  }
  return names.filter((name) => !installed.has(name));
}
