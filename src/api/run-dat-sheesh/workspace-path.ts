import { posix } from 'node:path';

export const workspace = '/workspace';

/**
 * The absolute guest path that a client's path means, or null when it lies outside /workspace. Only the text is looked
 * at; that no symbolic link leads out is the guest's to enforce.
 *
 * @example resolveInWorkspace('src/../a') === '/workspace/a'; resolveInWorkspace('/etc') === null
 */
export function resolveInWorkspace(path: string): string | null {
  if (path.includes('\0')) return null;
  const trimmed = path.trim();
  const absolute = posix.resolve(workspace, trimmed);
  return absolute === workspace || absolute.startsWith(`${workspace}/`) ? absolute : null;
}
