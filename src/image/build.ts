/** Building images from recipes, once for every content: a second build of the same recipe finds the first one's result. */

import { mkdir, rename } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { runCommand } from '../common/command.ts';
import { syncPath, writeFileAtomic } from '../common/files.ts';
import { describeFile } from './accept.ts';
import type { BuildContext } from './build-context.ts';
import { makeFilesystem } from './build-filesystem.ts';
import { buildKernel } from './build-kernel.ts';
import { withBuildLock } from './build-lock.ts';
import { installedPackages, installPackages } from './build-packages.ts';
import { installPrograms, programVersions } from './build-programs.ts';
import { configureSystem, settleModified } from './build-system.ts';
import { type CachedImage, type CachedManifest, cachedImageDir, defaultCacheDir, readCachedImage } from './cache.ts';
import { loadRecipe, type Recipe } from './recipe.ts';

const shippedRecipes = fileURLToPath(new URL('../../images/', import.meta.url));

export interface BuildProgress {
  readonly phase: 'waiting' | 'packages' | 'kernel' | 'programs' | 'system' | 'file system' | 'publish';
  /** What is being done, one line. */
  readonly detail: string;
  /** Since the call. */
  readonly elapsedMs: number;
}

export interface BuildOptions {
  /** Default: {@link defaultCacheDir}. */
  readonly cacheDir?: string;
  /** Directory with a folder per recipe; default: those Berth ships. */
  readonly recipesDir?: string;
  readonly onProgress?: (progress: BuildProgress) => void;
  /** Ends the build; nothing of it stays. */
  readonly signal?: AbortSignal;
}

/** The cached image of a recipe as it is now, or null: looks, never builds. */
export async function findBuiltImage(name: string, options: BuildOptions = {}): Promise<CachedImage | null> {
  const recipe = await loadRecipe(options.recipesDir ?? shippedRecipes, name, await programVersions());
  return await readCachedImage(cachedImageDir(options.cacheDir ?? defaultCacheDir(), recipe.hash));
}

/**
 * The image of a recipe from the cache, built first if it is not there. Needs root to build, and Debian's mirrors. Builds
 * of the same content in several processes wait for one another; one that is broken off leaves nothing that looks whole.
 */
export async function buildImage(name: string, options: BuildOptions = {}): Promise<CachedImage> {
  const started = performance.now();
  const recipe = await loadRecipe(options.recipesDir ?? shippedRecipes, name, await programVersions());
  const target = cachedImageDir(options.cacheDir ?? defaultCacheDir(), recipe.hash);
  const cached = await readCachedImage(target);
  if (cached) return cached;
  if (process.getuid?.() !== 0)
    throw new Error(`the image ${name} must be built as root once: sudo bin/berth image build ${name}`);
  await mkdir(dirname(target), { recursive: true });
  const signal = options.signal ?? new AbortController().signal;
  const report = (phase: BuildProgress['phase'], detail: string) =>
    options.onProgress?.({ phase, detail, elapsedMs: performance.now() - started });
  const onWait = () => report('waiting', 'another process is building this image');
  return await withBuildLock(`${target}.lock`, onWait, signal, async () => {
    return (await readCachedImage(target)) ?? (await build(recipe, target, signal, report));
  });
}

type Report = (phase: BuildProgress['phase'], detail: string) => void;

async function build(recipe: Recipe, target: string, signal: AbortSignal, report: Report): Promise<CachedImage> {
  const work = `${target}.build`;
  // The lock is ours: what is there is of a build that was killed.
  await removeTree(work);
  const out = join(work, 'image');
  await mkdir(out, { recursive: true });
  try {
    const manifest = await runPhases(recipe, work, out, signal, report);
    report('publish', `${Math.round(manifest.rootfs.bytes / 1024 / 1024)} MiB`);
    await writeFileAtomic(join(out, 'image.json'), `${JSON.stringify(manifest, null, 2)}\n`);
    await rename(out, target);
    await syncPath(dirname(target));
  } finally {
    await removeTree(work);
  }
  return (await readCachedImage(target))!;
}

async function runPhases(
  recipe: Recipe,
  work: string,
  out: string,
  signal: AbortSignal,
  report: Report,
): Promise<CachedManifest> {
  const startedMs = Date.now();
  const phase = (name: BuildProgress['phase']): BuildContext => {
    signal.throwIfAborted();
    report(name, name);
    return { recipe, work, root: join(work, 'root'), signal, detail: (text) => report(name, text) };
  };
  const [kernel, rootfs] = [join(out, 'vmlinux'), join(out, 'rootfs.ext4')];
  await installPackages(phase('packages'));
  const kernelRelease = await buildKernel(phase('kernel'), kernel);
  await installPrograms(phase('programs'));
  const system = phase('system');
  await configureSystem(system);
  await settleModified(system, startedMs);
  await makeFilesystem(phase('file system'), rootfs);
  const { npm, ...copied } = recipe.data.programs;
  const versions = Object.entries(await programVersions()).filter(([name]) => copied[name as keyof typeof copied]);
  return {
    format: 1,
    name: recipe.name,
    description: recipe.data.description,
    recipe: recipe.hash,
    kernelRelease,
    kernel: await describeFile(kernel),
    rootfs: await describeFile(rootfs),
    programs: { ...Object.fromEntries(versions), ...(npm ? { npm: npm.version } : {}) },
    packages: await installedPackages(system.root),
  };
}

async function removeTree(path: string): Promise<void> {
  // Never into another file system, should something have stayed mounted in a root.
  await runCommand('rm', ['-rf', '--one-file-system', path], { timeoutMs: 300_000 });
}
