/** Image bundles: a zip with a kernel, a root file system, or both. */

import { basename } from 'node:path';
import type { Readable } from 'node:stream';
import { openPromise, type ZipFile } from 'yauzl';
import { BerthError } from '../common/errors.ts';
import type { ImagePart } from './accept.ts';

/** More entries than any bundle has; each costs a read. */
const maxEntries = 10_000;

const parts: Readonly<Record<string, ImagePart>> = { vmlinux: 'kernel', 'rootfs.ext4': 'rootfs' };

/**
 * Hands each part in the zip at `path`, at any depth, to `receive` in turn. The streams are of unknown length whatever the
 * zip claims. Throws `image_invalid` for a damaged zip, `invalid_argument` when it holds no part.
 */
export async function readBundle(
  path: string,
  receive: (part: ImagePart, body: Readable) => Promise<void>,
): Promise<void> {
  const found = new Set<ImagePart>();
  const zip = await openPromise(path, { autoClose: false }).catch(refuse);
  try {
    if (zip.entryCount > maxEntries) throw new BerthError('image_invalid', { reason: 'the zip has too many entries' });
    for await (const entry of entriesOf(zip)) {
      const part = Object.hasOwn(parts, basename(entry.fileName)) ? parts[basename(entry.fileName)] : undefined;
      if (part === undefined || entry.fileName.endsWith('/')) continue;
      if (found.has(part))
        throw new BerthError('image_invalid', { reason: `the zip has more than one ${basename(entry.fileName)}` });
      found.add(part);
      await receive(part, await zip.openReadStreamPromise(entry).catch(refuse));
    }
  } finally {
    zip.close();
  }
  if (found.size === 0)
    throw new BerthError('invalid_argument', { reason: 'Zip must contain vmlinux and/or rootfs.ext4' });
}

/** The zip's entries; what goes wrong in reading them is the zip's fault. */
async function* entriesOf(zip: ZipFile) {
  const entries = zip.eachEntry();
  for (;;) {
    const next = await entries.next().catch(refuse);
    if (next.done) return;
    yield next.value;
  }
}

function refuse(error: unknown): never {
  throw new BerthError('image_invalid', { reason: 'the zip is damaged' }, error);
}
