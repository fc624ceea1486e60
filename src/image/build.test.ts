import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmod, mkdir, readdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { buildImage, findBuiltImage } from './build.ts';
import { scratchDirectory } from './testing/scratch.ts';

/** Stands for mmdebstrap, which needs Debian's mirrors: tells what it finds where it is to build, and then never ends. */
const standIn = `#!/bin/sh
for argument; do case "$argument" in */root) root=$argument; esac; done
echo "I: found $(ls -A "$root" 2>/dev/null)"
mkdir -p "$root"
touch "$root/half"
echo 'I: waiting'
exec sleep 1000
`;

test('a build that was killed leaves nothing that looks whole, nothing in the way, and its lock free', async (t) => {
  const dir = await scratchDirectory(t);
  const [bin, cacheDir] = [join(dir, 'bin'), join(dir, 'cache')];
  await mkdir(bin);
  await writeFile(join(bin, 'mmdebstrap'), standIn);
  await chmod(join(bin, 'mmdebstrap'), 0o755);
  const script = `
    const { buildImage } = await import(${JSON.stringify(import.meta.resolve('./build.ts'))});
    await buildImage('sandbox', { cacheDir: ${JSON.stringify(cacheDir)}, onProgress: ({ detail }) => console.log(detail) });`;
  for (const _ of ['on an empty cache', 'after one that was killed']) {
    const builder = spawn(process.execPath, ['--input-type=module', '--eval', script], {
      env: { ...process.env, PATH: `${bin}:${process.env.PATH}` },
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    let said = '';
    for await (const chunk of builder.stdout.setEncoding('utf8')) {
      said += chunk;
      if (said.includes('waiting\n')) builder.kill('SIGKILL');
    }
    if (builder.signalCode === null) await once(builder, 'exit');
    assert.equal(builder.signalCode, 'SIGKILL', said);
    // Of what the one before has begun there is nothing.
    assert.match(said, /^found $/m);
    assert.equal(await findBuiltImage('sandbox', { cacheDir }), null);
  }
  const stopped = AbortSignal.abort(new Error('it is a test'));
  await assert.rejects(buildImage('sandbox', { cacheDir, signal: stopped }), /it is a test/);
  assert.deepEqual(
    (await readdir(join(cacheDir, 'images'))).filter((name) => !name.endsWith('.lock')),
    [],
  );
});
