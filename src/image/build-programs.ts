/** Programs put beside Debian's: Deno and Node from Berth's own dependencies, npm from its registry. */

import { createHash } from 'node:crypto';
import { chmod, copyFile, mkdir, readdir, readFile, rm, symlink } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { runBuildCommand } from './build-command.ts';
import type { BuildContext } from './build-context.ts';

const dependencies = fileURLToPath(new URL('../../node_modules/', import.meta.url));
const denoBinary = join(dependencies, '@deno', 'linux-x64-glibc', 'deno');
const nodeBinary = join(dependencies, 'node', 'bin', 'node');

/** Versions of the programs that come from Berth's dependencies. */
export async function programVersions(): Promise<{ readonly deno: string; readonly node: string }> {
  return { deno: await packageVersion('deno'), node: await packageVersion('node') };
}

async function packageVersion(name: string): Promise<string> {
  const { version } = JSON.parse(await readFile(join(dependencies, name, 'package.json'), 'utf8')) as {
    version: string;
  };
  return version;
}

export async function installPrograms(context: BuildContext): Promise<void> {
  const { deno, node, npm } = context.recipe.data.programs;
  const bin = join(context.root, 'usr', 'local', 'bin');
  if (deno) {
    context.detail('Deno');
    await copyFile(denoBinary, join(bin, 'deno'));
    await chmod(join(bin, 'deno'), 0o755);
  }
  if (node) {
    context.detail('Node');
    // Symbols for debuggers are a fifth of the file.
    await runBuildCommand('strip', ['--strip-all', '-o', join(bin, 'node'), nodeBinary], { signal: context.signal });
    await chmod(join(bin, 'node'), 0o755);
  }
  if (npm) await installNpm(context, npm);
}

async function installNpm(
  context: BuildContext,
  { version, integrity }: { readonly version: string; readonly integrity: string },
): Promise<void> {
  context.detail(`npm ${version}`);
  const download = join(context.work, 'npm');
  await mkdir(download);
  await runBuildCommand('npm', ['pack', '--ignore-scripts', `npm@${version}`], {
    cwd: download,
    signal: context.signal,
  });
  const archive = join(download, `npm-${version}.tgz`);
  const actual = `sha512-${createHash('sha512')
    .update(await readFile(archive))
    .digest('base64')}`;
  if (actual !== integrity) throw new Error(`npm ${version} is not what the recipe expects: ${actual}`);
  const target = join(context.root, 'usr', 'local', 'lib', 'node_modules', 'npm');
  await mkdir(target, { recursive: true });
  await runBuildCommand('tar', ['-xzf', archive, '--strip-components=1', '--no-same-owner', '-C', target], {
    signal: context.signal,
  });
  for (const name of ['docs', 'man']) await rm(join(target, name), { recursive: true, force: true });
  for (const name of await readdir(join(target, 'bin'))) await chmod(join(target, 'bin', name), 0o755);
  for (const name of ['npm', 'npx']) {
    await symlink(`../lib/node_modules/npm/bin/${name}-cli.js`, join(context.root, 'usr', 'local', 'bin', name));
  }
}
