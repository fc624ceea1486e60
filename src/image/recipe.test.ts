import assert from 'node:assert/strict';
import { chmod, mkdir, readdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, type TestContext, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { loadRecipe } from './recipe.ts';
import { scratchDirectory } from './testing/scratch.ts';

const text = `
description = "test"
timestamp = 1735689600
[debian]
suite = "bookworm"
variant = "extract"
packages = ["busybox-static"]
[kernel]
package = "linux-image-cloud-amd64"
modules = []
[filesystem]
uuid = "5e1f5a5e-6b65-4e5e-9c1d-8f1b6b0c7a01"
free-percent = 25
`;

async function sampleRecipe(t: TestContext, recipe = text): Promise<string> {
  const dir = await scratchDirectory(t);
  await mkdir(join(dir, 'one', 'files', 'etc'), { recursive: true });
  await writeFile(join(dir, 'one', 'recipe.toml'), recipe);
  await writeFile(join(dir, 'one', 'files', 'etc', 'motd'), 'hello');
  return dir;
}

describe('loadRecipe', () => {
  test('reads every recipe Berth ships', async () => {
    const shipped = fileURLToPath(new URL('../../images/', import.meta.url));
    const folders = (await readdir(shipped, { withFileTypes: true })).filter((entry) => entry.isDirectory());
    const names = folders.map(({ name }) => name);
    const recipes = await Promise.all(names.map((name) => loadRecipe(shipped, name, {})));
    assert.ok(names.includes('sandbox'));
    assert.equal(new Set(recipes.map(({ hash }) => hash)).size, names.length);
  });

  test('gives the same content the same hash', async (t) => {
    const [first, second] = [await sampleRecipe(t), await sampleRecipe(t)];
    const hash = (await loadRecipe(first, 'one', { node: '1', deno: '2' })).hash;
    assert.match(hash, /^[0-9a-f]{32}$/);
    assert.equal((await loadRecipe(second, 'one', { deno: '2', node: '1' })).hash, hash);
  });

  const changes: readonly (readonly [string, (dir: string) => Promise<void>])[] = [
    ['a file', (dir) => writeFile(join(dir, 'files/etc/motd'), 'hallo')],
    ['a mode', (dir) => chmod(join(dir, 'files/etc/motd'), 0o755)],
    ['another file', (dir) => writeFile(join(dir, 'files/etc/issue'), '')],
    ['the recipe', (dir) => writeFile(join(dir, 'recipe.toml'), text.replace('25', '26'))],
  ];
  for (const [name, change] of changes) {
    test(`gives another hash when ${name} changes`, async (t) => {
      const dir = await sampleRecipe(t);
      const before = (await loadRecipe(dir, 'one', {})).hash;
      await change(join(dir, 'one'));
      assert.notEqual((await loadRecipe(dir, 'one', {})).hash, before);
    });
  }

  test('gives another hash when a program changes', async (t) => {
    const dir = await sampleRecipe(t);
    const { hash } = await loadRecipe(dir, 'one', { node: '26.0.0' });
    assert.notEqual((await loadRecipe(dir, 'one', { node: '26.0.1' })).hash, hash);
  });

  const refused: readonly (readonly [string, string])[] = [
    ['an unknown key', `unknown = 1\n${text}`],
    ['a package that is no name', text.replace('busybox-static', '--option')],
    ['a kernel that is neither package nor source', text.replace('package = ', 'packet = ')],
    ['text that is not TOML', 'description'],
  ];
  for (const [name, recipe] of refused) {
    test(`refuses ${name}`, async (t) => {
      await assert.rejects(loadRecipe(await sampleRecipe(t, recipe), 'one', {}));
    });
  }

  test('refuses names that are paths, and names of nothing', async (t) => {
    const dir = await sampleRecipe(t);
    await assert.rejects(loadRecipe(dir, '../one', {}), /not a recipe name/);
    await assert.rejects(loadRecipe(dir, 'two', {}), /there is no recipe two/);
  });
});
