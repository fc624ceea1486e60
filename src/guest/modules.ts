/** Picks from an image's root file system the kernel modules that an initramfs needs, in the order to load them. */

import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { promisify } from 'node:util';
import { gunzip, zstdDecompress } from 'node:zlib';

import { BerthError } from '../common/errors.ts';
import { debugfsRead } from './debugfs.ts';
import { elfSection } from './elf.ts';
import { runBounded } from './run-bounded.ts';

export interface KernelModule {
  /** Plain file name, `virtio_blk.ko`. */
  readonly file: string;
  /** Uncompressed. */
  readonly data: Buffer;
  readonly phase: LoadPhase;
}

/**
 * `early`: needed to mount the root file system and answer the host. `network`: loaded after that, and waited for by the
 * host, which sets the network up. `late`: when nothing else is to be done.
 */
export type LoadPhase = 'early' | 'network' | 'late';

/** In this order. Most kernels have some of them built in, or not at all; dependencies are added by themselves. */
const wanted: Readonly<Record<LoadPhase, readonly string[]>> = {
  early: ['virtio_mmio', 'virtio_pci', 'virtio_blk', 'virtio_console', 'ext4'],
  network: ['virtio_net'],
  late: ['virtio_rng', 'evdev', 'button', 'virtio_balloon', 'overlay'],
};

const inflateGzip = promisify(gunzip);
const inflateZstd = promisify(zstdDecompress);
/** No module of a sane kernel is larger, nor its list of them. */
const MAX_MODULE_BYTES = 64 * 1024 * 1024;
/** All modules of an initramfs together: it is read into memory. */
const MAX_TOTAL_BYTES = 128 * 1024 * 1024;
/** Modules of an initramfs, those that others need included. Each costs a start of debugfs. */
const MAX_MODULES = 256;
/** What xz may need to unpack one; kernels pack theirs for far less. */
const XZ_MEMORY = '256MiB';

/** Module names use `_` and `-` alike; files may be compressed. */
function moduleName(path: string): string {
  return basename(path)
    .replace(/\.ko(\.(xz|gz|zst))?$/, '')
    .replaceAll('-', '_');
}

async function inflateXz(data: Buffer): Promise<Buffer> {
  const directory = await mkdtemp(join(tmpdir(), 'berth-xz-'));
  try {
    const path = join(directory, 'module.ko');
    await writeFile(`${path}.xz`, data);
    const args = ['--decompress', `--memlimit-decompress=${XZ_MEMORY}`, `${path}.xz`];
    if (!(await runBounded('xz', args, MAX_MODULE_BYTES))) throw new Error('unpacks to too much');
    return await readFile(path);
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}

async function inflate(path: string, data: Buffer): Promise<Buffer> {
  try {
    if (path.endsWith('.gz')) return await inflateGzip(data, { maxOutputLength: MAX_MODULE_BYTES });
    if (path.endsWith('.zst')) return await inflateZstd(data, { maxOutputLength: MAX_MODULE_BYTES });
    if (path.endsWith('.xz')) return await inflateXz(data);
    return data;
  } catch (error) {
    throw invalid(`module ${path} cannot be unpacked`, error);
  }
}

function invalid(reason: string, cause?: unknown): BerthError {
  return new BerthError('image_invalid', { reason }, cause);
}

/** Names a module says it needs, from its `.modinfo` section: `depends=` and `softdep=pre: …`. */
export function moduleDependencies(module: Buffer): readonly string[] {
  const names: string[] = [];
  for (const entry of (elfSection(module, '.modinfo') ?? Buffer.alloc(0)).toString('latin1').split('\0')) {
    if (entry.startsWith('depends=')) names.push(...entry.slice('depends='.length).split(','));
    const soft = /^softdep=pre: *([^:]*?)( *post:.*)?$/.exec(entry);
    if (soft) names.push(...(soft[1] ?? '').split(' '));
  }
  return names.filter((name) => name !== '').map((name) => name.replaceAll('-', '_'));
}

/** Paths relative to the module directory, by module name. */
function parseIndex(text: string): Map<string, string> {
  const index = new Map<string, string>();
  for (const line of text.split('\n')) {
    const path = line.split(':')[0]?.trim() ?? '';
    if (/^[\w./+-]+\.ko(\.(xz|gz|zst))?$/.test(path) && !path.split('/').includes('..'))
      index.set(moduleName(path), path);
  }
  return index;
}

async function findModules(
  rootfs: string,
  release: string,
): Promise<{ directory: string; index: Map<string, string> } | null> {
  // Debian links /lib to /usr/lib, and debugfs follows links; other systems have the one or the other.
  for (const directory of [`/lib/modules/${release}`, `/usr/lib/modules/${release}`]) {
    // depmod's list says where files really are; modules.order is what a kernel package brings before depmod has run.
    for (const list of ['modules.dep', 'modules.order']) {
      const text = await debugfsRead(rootfs, `${directory}/${list}`, MAX_MODULE_BYTES);
      if (text !== null) return { directory, index: parseIndex(text.toString('latin1')) };
    }
  }
  return null;
}

/**
 * The modules of `release` found in an ext4 image, dependencies first. Empty when the image has no modules for that kernel:
 * then it must have everything built in. A module that is nowhere is taken to be built in or not needed. Throws
 * `image_invalid` for modules that are damaged, or more than any kernel needs: the image may be anybody's.
 */
export async function collectModules(rootfs: string, release: string): Promise<readonly KernelModule[]> {
  const found = await findModules(rootfs, release);
  if (found === null) return [];
  const { directory, index } = found;
  const collected: KernelModule[] = [];
  /** Names that were met, so that modules which need each other are met once. */
  const met = new Set<string>();
  let bytes = 0;
  const collect = async (name: string, phase: LoadPhase): Promise<void> => {
    const path = index.get(name);
    if (path === undefined || met.has(name)) return;
    met.add(name);
    const packed = await debugfsRead(rootfs, `${directory}/${path}`, MAX_MODULE_BYTES);
    if (packed === null) throw invalid(`module ${path} is listed in the image but missing`);
    const data = await inflate(path, packed);
    bytes += data.length;
    if (met.size > MAX_MODULES || bytes > MAX_TOTAL_BYTES)
      throw invalid('it needs too many modules, or too large ones');
    for (const dependency of moduleDependencies(data)) await collect(dependency, phase);
    collected.push({ file: `${name}.ko`, data, phase });
  };
  for (const phase of ['early', 'network', 'late'] as const)
    for (const name of wanted[phase]) await collect(name, phase);
  return collected;
}
