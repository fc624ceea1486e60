import { chmod, chown } from 'node:fs/promises';
import { runCommand } from '../../common/command.ts';
import type { DiskFormat } from '../qcow2.ts';

/** An empty disk of `uid`, or the test's own. */
export async function createDisk(options: {
  readonly path: string;
  readonly format: DiskFormat;
  readonly sizeBytes: number;
  readonly uid: number | null;
}): Promise<void> {
  const { path, format, sizeBytes, uid } = options;
  await runCommand('qemu-img', ['create', '-q', '-f', format, '--', path, String(sizeBytes)]);
  await chmod(path, 0o600);
  if (uid !== null) await chown(path, uid, uid);
}
