/** The root file system image: ext4 that is the same, bit for bit, for the same directory. */

import { open, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { runCommand } from '../common/command.ts';
import { runBuildCommand } from './build-command.ts';
import type { BuildContext } from './build-context.ts';
import { walk } from './walk.ts';

const blockBytes = 4096;
const inodeBytes = 256;
/** Enough for the disk the file system is grown to, which keeps it. */
const journalMiB = 32;
/** One whole block group; the journal may not be more than half of a file system. */
const leastBlocks = 32768;
/** Inodes left for the guest beside those in use, before the file system is grown. */
const spareInodes = 8192;
/** Bytes per inode of e2fsprogs' own default; also what a grown file system gets. */
const bytesPerInode = 16384;
const firstFreeInode = 11;

/**
 * Spelled out, so that the host's mke2fs.conf has no say. The resize inode and 64-bit block numbers let a guest grow the
 * file system a thousandfold while it is mounted.
 */
const features =
  'none,has_journal,ext_attr,resize_inode,dir_index,filetype,extent,64bit,flex_bg,sparse_super,large_file,huge_file,dir_nlink,extra_isize,metadata_csum';

/** What mke2fs is told of in its configuration: that there are such types, and nothing about them. */
const emptyConfig = '[fs_types]\n  ext4 = {\n  }\n  small = {\n  }\n';

/** Writes `context.root` to `target`, a sparse ext4 image. */
export async function makeFilesystem(context: BuildContext, target: string): Promise<void> {
  const { filesystem, timestamp } = context.recipe.data;
  context.detail('measuring');
  const used = await measure(context.root);
  const inodes = used.inodes + spareInodes;
  const metadata = Math.ceil((inodes * inodeBytes) / blockBytes) + (journalMiB * 1024 * 1024) / blockBytes + 1024;
  const blocks = Math.max(leastBlocks, Math.ceil((used.blocks * (100 + filesystem['free-percent'])) / 100) + metadata);
  const ratio = Math.min(bytesPerInode, Math.floor((blocks * blockBytes) / inodes));
  context.detail(`ext4, ${Math.round((blocks * blockBytes) / 1024 / 1024)} MiB`);
  const config = join(context.work, 'mke2fs.conf');
  await writeFile(config, emptyConfig);
  // The time is read by libext2fs instead of the clock.
  const env = { E2FSPROGS_FAKE_TIME: String(timestamp), MKE2FS_CONFIG: config };
  const options = [
    `hash_seed=${filesystem.uuid}`,
    'root_owner=0:0',
    // Inode tables are zeroed now, not by the first guest that mounts them; the journal is, in a file that is new.
    'lazy_itable_init=0',
    'lazy_journal_init=1',
  ];
  await runBuildCommand(
    'mke2fs',
    [
      ...['-q', '-F', '-t', 'ext4', '-O', features, '-U', filesystem.uuid, '-L', 'root'],
      ...[
        '-b',
        String(blockBytes),
        '-I',
        String(inodeBytes),
        '-i',
        String(ratio),
        '-m',
        '0',
        '-J',
        `size=${journalMiB}`,
      ],
      ...['-E', options.join(','), '-d', context.root, target, String(blocks)],
    ],
    { env, signal: context.signal },
  );
  await settleTimes(context, target, env);
  await runBuildCommand('fallocate', ['--dig-holes', target], { signal: context.signal });
  const image = await open(target, 'r+');
  try {
    await image.sync();
  } finally {
    await image.close();
  }
}

/** Change times cannot be set on a directory tree, and access times change as it is read: they are set in the image. */
async function settleTimes(
  context: BuildContext,
  target: string,
  env: Readonly<Record<string, string>>,
): Promise<void> {
  context.detail('file times');
  const { timestamp } = context.recipe.data;
  const { stdout } = await runCommand('dumpe2fs', ['-h', target]);
  const count = (name: string) => Number(new RegExp(`^${name}: +(\\d+)$`, 'm').exec(stdout)?.[1]);
  // mke2fs hands inodes out from the first on.
  const last = count('Inode count') - count('Free inodes');
  const commands: string[] = [];
  for (let inode = firstFreeInode; inode <= last; inode++) {
    for (const field of ['atime', 'ctime']) commands.push(`sif <${inode}> ${field} @${timestamp}`);
  }
  const script = join(context.work, 'times.debugfs');
  await writeFile(script, `${commands.join('\n')}\n`);
  await runBuildCommand('debugfs', ['-w', '-f', script, target], { env, signal: context.signal });
}

/** Blocks and inodes that a tree takes; hard links count once. */
async function measure(root: string): Promise<{ readonly blocks: number; readonly inodes: number }> {
  const seen = new Set<number>();
  let blocks = 0;
  for await (const { stat } of walk(root)) {
    if (seen.has(stat.ino)) continue;
    seen.add(stat.ino);
    // A long file needs a block more for its extents; a directory has one at the least.
    if (stat.isFile()) blocks += Math.ceil(stat.size / blockBytes) + (stat.size > 256 * 1024 * 1024 ? 1 : 0);
    else if (stat.isDirectory()) blocks += Math.max(1, Math.ceil(stat.size / blockBytes));
    else if (stat.isSymbolicLink() && stat.size >= 60) blocks += 1;
  }
  return { blocks, inodes: seen.size };
}
