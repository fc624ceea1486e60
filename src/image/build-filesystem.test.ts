import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { link, mkdir, open, readFile, stat, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import type { BuildContext } from './build-context.ts';
import { makeFilesystem } from './build-filesystem.ts';
import { checkExt4 } from './ext4.ts';
import { loadRecipe } from './recipe.ts';
import { scratchDirectory } from './testing/scratch.ts';

const names = ['alpha', 'beta', 'gamma', 'delta'];

/** A build that has come as far as its file system. */
async function sampleBuild(t: TestContext, order: readonly string[]): Promise<BuildContext> {
  const work = await scratchDirectory(t);
  const root = join(work, 'root');
  await mkdir(join(root, 'etc'), { recursive: true, mode: 0o755 });
  for (const name of order) await writeFile(join(root, name), name, { mode: 0o644 });
  await link(join(root, 'alpha'), join(root, 'etc', 'linked'));
  await symlink('../alpha', join(root, 'etc', 'pointer'));
  for (const path of [...order, 'etc', '.']) execFileSync('touch', ['--date=@1700000000', join(root, path)]);
  execFileSync('touch', ['--no-dereference', '--date=@1700000000', join(root, 'etc', 'pointer')]);
  const recipes = new URL('../../images/', import.meta.url).pathname;
  const recipe = await loadRecipe(recipes, 'kernel-builtin', {});
  return { recipe, work, root, signal: new AbortController().signal, detail: () => {} };
}

test('the same tree gives the same bytes, in whatever order and when it was made', async (t) => {
  const images: Buffer[] = [];
  for (const order of [names, names.toReversed()]) {
    const context = await sampleBuild(t, order);
    const image = join(context.work, 'image');
    await makeFilesystem(context, image);
    images.push(await readFile(image));
  }
  assert.ok(images[0]!.equals(images[1]!));
});

test('a small tree gives a sound, sparse file system that can be grown', async (t) => {
  const context = await sampleBuild(t, names);
  const image = join(context.work, 'image');
  await makeFilesystem(context, image);
  {
    await using file = await open(image, 'r');
    await checkExt4(file);
  }
  execFileSync('e2fsck', ['-fn', image], { stdio: 'pipe' });
  const superblock = execFileSync('dumpe2fs', ['-h', image], { encoding: 'utf8', stdio: 'pipe' });
  assert.match(superblock, /features:.* resize_inode .*64bit/);
  assert.match(superblock, /Reserved GDT blocks: +\d{2,}/);
  const { size, blocks } = await stat(image);
  assert.ok(blocks * 512 < size / 4, `${blocks * 512} of ${size} bytes are allocated`);
});
