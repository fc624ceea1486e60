import { randomUUID } from 'node:crypto';

/** A name beside `path` that nobody else uses; what is left of it by a crash is recognized by {@link isTemporary}. */
export function temporaryName(path: string): string {
  return `${path}.${randomUUID()}.tmp`;
}

export function isTemporary(name: string): boolean {
  return name.endsWith('.tmp');
}
