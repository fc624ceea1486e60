/**
 * Puts the guest agent into one file for images: `node scripts/bundle-agent.mjs <file.cjs>`. It needs nothing but Node there.
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
    // Importing node:http as an ES module loads all that it exports, an HTTP client and WebSockets too: a third of the
    // time that the start takes.
    format: 'cjs',
    target: 'node22',
    logLevel: 'warning',
  });
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const [, , file] = process.argv;
  if (file === undefined) throw new Error('usage: node scripts/bundle-agent.mjs <file.cjs>');
  await bundleAgent(file);
}
