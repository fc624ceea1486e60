import { BerthError } from '../../common/errors.ts';
import { DialectError } from './errors.ts';

const missing = new Set(['', 'undefined', 'null']);
const idPattern = /^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$/;

/**
 * The VM id of a path. What a client's unset variable turns into is a 400; what can be no id is not found, so that only
 * well-formed ids go further.
 */
export function vmId(text: string): string {
  if (missing.has(text.trim().toLowerCase())) throw new DialectError(400, 'Invalid VM id');
  if (!idPattern.test(text)) throw new BerthError('vm_not_found', { id: text });
  return text;
}

/** As {@link vmId}, for images. */
export function imageId(text: string): string {
  if (!idPattern.test(text)) throw new BerthError('image_not_found');
  return text;
}

/** As {@link vmId}, for snapshots. */
export function snapshotId(text: string): string {
  if (!idPattern.test(text)) throw new BerthError('snapshot_not_found');
  return text;
}
