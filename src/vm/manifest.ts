import { readFile } from 'node:fs/promises';
import { z } from 'zod';
import { writeFileAtomic } from '../common/files.ts';

/**
 * What a VM's directory says of itself: which layer its disk is at. The store knows the VM; the manifest knows the files,
 * and changes in the same rename as the layer does.
 */
const manifestSchema = z.object({
  version: z.literal(1),
  id: z.string(),
  /** Newest disk layer, a file name in the VM's directory. */
  layer: z.string(),
});

export type Manifest = z.infer<typeof manifestSchema>;

/** The file's content. */
export function manifestText(manifest: Manifest): string {
  return `${JSON.stringify(manifest, null, 2)}\n`;
}

/** Replaces the manifest of a VM, durably. */
export async function writeManifest(path: string, manifest: Manifest): Promise<void> {
  await writeFileAtomic(path, manifestText(manifest), 0o600);
}

/** Null when there is none; throws when it is not one of ours. */
export async function readManifest(path: string): Promise<Manifest | null> {
  let text: string;
  try {
    text = await readFile(path, 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return null;
    throw error;
  }
  return manifestSchema.parse(JSON.parse(text));
}
