/** Recipes: what an image is built from, as data in `images/<name>/recipe.toml` with a tree of files beside it. */

import { createHash } from 'node:crypto';
import { readdir, readFile, readlink, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { parse } from 'smol-toml';
import * as z from 'zod';

/** Raised when the builder makes something else from the same recipe. */
const builderVersion = 2;

const absolutePath = z.string().regex(/^(\/[A-Za-z0-9._*-]+)+$/);
const packageName = z.string().regex(/^[a-z0-9][a-z0-9+.-]+$/);
const accountName = z.string().regex(/^[a-z][a-z0-9-]{0,30}$/);

const recipeSchema = z.strictObject({
  description: z.string().max(200),
  timestamp: z.int().positive(),
  debian: z.strictObject({
    suite: z.literal('bookworm'),
    /** mmdebstrap's; `extract` unpacks without running maintainer scripts. */
    variant: z.enum(['minbase', 'extract']),
    packages: z.array(packageName),
    exclude: z.array(absolutePath).default([]),
    include: z.array(absolutePath).default([]),
  }),
  kernel: z.union([
    /** A Debian kernel, with the modules whose path under kernel/ begins so. */
    z.strictObject({ package: packageName, modules: z.array(z.string()) }),
    /** Compiled from a Debian source package with the options of `config` over tinyconfig. */
    z.strictObject({ source: packageName, config: z.string().regex(/^[a-z0-9.-]+$/) }),
  ]),
  filesystem: z.strictObject({ uuid: z.uuid(), 'free-percent': z.int().min(5).max(1000) }),
  programs: z
    .strictObject({
      deno: z.boolean().default(false),
      node: z.boolean().default(false),
      npm: z.strictObject({ version: z.string(), integrity: z.string().startsWith('sha512-') }).optional(),
    })
    .default({ deno: false, node: false }),
  users: z
    .array(
      z.strictObject({ name: accountName, id: z.int().min(0).max(59999), home: absolutePath, shell: absolutePath }),
    )
    .default([]),
  directories: z
    .array(z.strictObject({ path: absolutePath, owner: z.int().nonnegative(), mode: z.string().regex(/^[0-7]{4}$/) }))
    .default([]),
  links: z.array(z.strictObject({ path: absolutePath, target: absolutePath })).default([]),
});

export type RecipeData = z.infer<typeof recipeSchema>;

export interface Recipe {
  readonly name: string;
  /** Directory of the recipe; its `files/` is laid over the root file system. */
  readonly dir: string;
  readonly data: RecipeData;
  /** Lower-case hex, 32 digits: of the recipe's files, the programs put in and the builder. */
  readonly hash: string;
}

/** Reads and checks `<recipesDir>/<name>`. `programVersions` are those of programs copied in, such as `{ node: '26.10.0' }`. */
export async function loadRecipe(
  recipesDir: string,
  name: string,
  programVersions: Readonly<Record<string, string>>,
): Promise<Recipe> {
  if (!/^[a-z0-9][a-z0-9._-]{0,62}$/.test(name)) throw new Error(`not a recipe name: ${name}`);
  const dir = join(recipesDir, name);
  const text = await readFile(join(dir, 'recipe.toml'), 'utf8').catch((error: NodeJS.ErrnoException) => {
    throw error.code === 'ENOENT' ? new Error(`there is no recipe ${name} in ${recipesDir}`) : error;
  });
  const data = recipeSchema.parse(parse(text));
  return { name, dir, data, hash: await hashRecipe(dir, programVersions) };
}

/** Names, kinds, modes and contents of the recipe's files, in an order that does not depend on the file system. */
async function hashRecipe(dir: string, programVersions: Readonly<Record<string, string>>): Promise<string> {
  const hash = createHash('sha256');
  const add = (...parts: readonly (string | Uint8Array)[]) => {
    // Lengths keep two different lists of parts from reading as the same bytes.
    for (const part of parts) hash.update(`${Buffer.byteLength(part)}:`).update(part);
  };
  add('berth image', String(builderVersion), JSON.stringify(Object.entries(programVersions).sort()));
  const entries = await readdir(dir, { recursive: true, withFileTypes: true });
  const files = entries
    .filter((entry) => !entry.isDirectory())
    .map((entry) => join(entry.parentPath, entry.name).slice(dir.length + 1))
    .sort();
  for (const file of files) {
    const path = join(dir, file);
    const entry = entries.find(({ parentPath, name }) => join(parentPath, name) === path)!;
    if (entry.isSymbolicLink()) add('link', file, await readlink(path));
    else add((await stat(path)).mode & 0o100 ? 'executable' : 'file', file, await readFile(path));
  }
  return hash.digest('hex').slice(0, 32);
}
