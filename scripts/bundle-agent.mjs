/**
 * Puts the guest agent into one file for images: `node scripts/bundle-agent.mjs <file>`. It needs nothing but Node there.
 */

import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';

const root = dirname(dirname(fileURLToPath(import.meta.url)));

/** @param {string} file */
export async function bundleAgent(file) {
  await build({
    entryPoints: [join(root, 'src', 'agent', 'main.ts')],
    outfile: file,
    bundle: true,
    minify: true,
    platform: 'node',
    format: 'esm',
    target: 'node22',
    // Packages that are CommonJS ask for built-in modules this way.
    banner: { js: "import{createRequire}from'node:module';const require=createRequire(import.meta.url);" },
    logLevel: 'warning',
  });
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const [, , file] = process.argv;
  if (file === undefined) throw new Error('usage: node scripts/bundle-agent.mjs <file>');
  await bundleAgent(file);
}
