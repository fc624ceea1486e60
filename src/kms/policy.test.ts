import assert from 'node:assert/strict';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { readPolicy } from './policy.ts';

test('a policy file is read, in any case of hex, and refused when a rule is misspelt', async () => {
  const directory = await mkdtemp(join(tmpdir(), 'berth-policy-'));
  const path = join(directory, 'policy.json');
  const read = async (content: unknown): ReturnType<typeof readPolicy> => {
    await writeFile(path, JSON.stringify(content));
    return readPolicy(path);
  };
  try {
    const app = { appId: `0x${'AB'.repeat(20)}`, composeHashes: ['CD'.repeat(32)] };
    assert.deepEqual(await read({ apps: [app] }), {
      apps: [{ appId: 'ab'.repeat(20), composeHashes: ['cd'.repeat(32)] }],
      allowSelfNamed: true,
      osImages: [],
    });
    for (const bad of [
      { app: [] },
      { apps: [{ ...app, appId: 'ab' }] },
      { apps: [{ ...app, composeHashes: [] }] },
      { apps: [{ ...app, note: '' }] },
      { osImages: ['zz'] },
      { allowSelfNamed: 'no' },
      [],
    ])
      await assert.rejects(read(bad), /policy is not one/, JSON.stringify(bad));
  } finally {
    await rm(directory, { recursive: true });
  }
});
