/** The guest kernel of an image, and its modules. */

import { copyFile, mkdir, readdir } from 'node:fs/promises';
import { cpus } from 'node:os';
import { join } from 'node:path';
import { runBuildCommand } from './build-command.ts';
import type { BuildContext } from './build-context.ts';
import { installModules } from './build-modules.ts';
import { kernelPackages } from './build-packages.ts';
import { bzImageRelease, unpackBzImage } from './kernel.ts';

/** Makes `target`, an uncompressed ELF kernel, and puts its modules in the root file system. Returns its release. */
export async function buildKernel(context: BuildContext, target: string): Promise<string> {
  const unpacked = join(context.work, 'kernel');
  await mkdir(unpacked);
  await unpackPackages(context, unpacked);
  const { kernel } = context.recipe.data;
  if ('source' in kernel) return await compileKernel(context, unpacked, kernel.source, kernel.config, target);
  const boot = join(unpacked, 'boot');
  const image = (await readdir(boot)).find((name) => name.startsWith('vmlinuz-'));
  if (image === undefined) throw new Error(`${kernel.package} holds no kernel`);
  const bzImage = join(boot, image);
  await unpackBzImage(bzImage, target);
  const release = await bzImageRelease(bzImage);
  await installModules(context, join(unpacked, 'lib', 'modules', release), release, kernel.modules);
  return release;
}

async function unpackPackages(context: BuildContext, target: string): Promise<void> {
  const dir = kernelPackages(context);
  const packages = (await readdir(dir)).filter((name) => name.endsWith('.deb'));
  if (packages.length === 0) throw new Error('the kernel package was not downloaded');
  for (const name of packages) {
    context.detail(`unpacking ${name}`);
    await runBuildCommand('dpkg-deb', ['--extract', join(dir, name), target], { signal: context.signal });
  }
}

async function compileKernel(
  context: BuildContext,
  unpacked: string,
  source: string,
  config: string,
  target: string,
): Promise<string> {
  const { signal, recipe } = context;
  context.detail(`unpacking ${source}`);
  await runBuildCommand('tar', ['-xf', join(unpacked, 'usr', 'src', `${source}.tar.xz`), '-C', unpacked], { signal });
  const tree = join(unpacked, source);
  await copyFile(join(recipe.dir, config), join(tree, 'kernel', 'configs', 'berth.config'));
  const env = {
    // What the kernel would else take from the host and the clock.
    KBUILD_BUILD_TIMESTAMP: `@${recipe.data.timestamp}`,
    KBUILD_BUILD_USER: 'berth',
    KBUILD_BUILD_HOST: 'berth',
    KBUILD_BUILD_VERSION: '1',
  };
  const make = (...targets: readonly string[]) =>
    runBuildCommand('nice', ['make', '-C', tree, `-j${cpus().length}`, ...targets], {
      env,
      signal,
      onLine: (line) => context.detail(line.trim()),
    });
  await make('tinyconfig', 'berth.config');
  await make('bzImage');
  const bzImage = join(tree, 'arch', 'x86', 'boot', 'bzImage');
  await unpackBzImage(bzImage, target);
  return await bzImageRelease(bzImage);
}
