import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestContext } from 'node:test';

/** A directory that goes with the test. */
export async function scratchDirectory(t: TestContext): Promise<string> {
  const dir = await mkdtemp(join(tmpdir(), 'berth-image-'));
  t.after(() => rm(dir, { recursive: true, force: true }));
  return dir;
}
