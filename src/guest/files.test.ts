import assert from 'node:assert/strict';
import { once } from 'node:events';
import { chmod, chown, mkdir, readdir, readFile, readlink, stat, symlink, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { PassThrough, type Readable } from 'node:stream';
import { buffer, text } from 'node:stream/consumers';
import { describe, test } from 'node:test';
import { extract, pack } from 'tar-stream';

import { runCommand } from '../common/command.ts';
import { createGuestClient } from './client.ts';
import type { GuestClient } from './guest.ts';
import { LocalGuest, withLocalGuest } from './testing/local-guest.ts';

let client: GuestClient;
let root: string;

withLocalGuest((atHand) => {
  ({ client, root } = atHand);
});

async function unpackedHere(
  archive: Readable,
): Promise<Map<string, { type: string; content: string; linkname: string | null | undefined }>> {
  const entries = new Map<string, { type: string; content: string; linkname: string | null | undefined }>();
  for await (const entry of archive.pipe(extract())) {
    entries.set(entry.header.name, {
      type: entry.header.type ?? '',
      content: await text(entry),
      linkname: entry.header.linkname,
    });
  }
  return entries;
}

describe('files', () => {
  const owner = { uid: 4321, gid: 4321 };

  async function place(name: string): Promise<{ dir: string; options: { uid: number; gid: number; root: string } }> {
    const dir = join(root, name);
    await mkdir(dir);
    await chown(dir, owner.uid, owner.gid);
    return { dir, options: { ...owner, root: dir } };
  }

  function archive(fill: (tar: ReturnType<typeof pack>) => void): Readable {
    const tar = pack();
    fill(tar);
    tar.finalize();
    return tar.pipe(new PassThrough());
  }

  test('an upload is written as the user, without special bits', async () => {
    const { dir, options } = await place('plain');
    const long = `${'deep/'.repeat(40)}file`;
    const upload = archive((tar) => {
      tar.entry({ name: 'bin/', type: 'directory', mode: 0o755 });
      tar.entry({ name: 'bin/run', mode: 0o4755, mtime: new Date(1_000_000_000_000) }, '#!/bin/sh\n');
      tar.entry({ name: './ünïcode', mode: 0o600 }, 'x');
      tar.entry({ name: long }, 'deep');
      tar.entry({ name: 'empty' }, '');
    });
    await client.uploadTar(join(dir, 'new/place'), upload, options);
    const run = await stat(join(dir, 'new/place/bin/run'));
    assert.deepEqual([run.mode & 0o7777, run.uid, run.gid, run.mtimeMs], [0o755, 4321, 4321, 1_000_000_000_000]);
    assert.equal(await readFile(join(dir, 'new/place', long), 'utf8'), 'deep');
    assert.equal((await stat(join(dir, 'new/place/ünïcode'))).mode & 0o777, 0o600);
    assert.equal((await stat(join(dir, 'new/place'))).uid, 4321);
    assert.equal((await stat(join(dir, 'new/place/empty'))).size, 0);
  });

  test('an upload replaces files, and links by files', async () => {
    const { dir, options } = await place('replace');
    await writeFile(join(dir, 'target'), 'untouched');
    await symlink('target', join(dir, 'link'));
    await chown(join(dir, 'target'), owner.uid, owner.gid);
    await client.uploadTar(
      dir,
      archive((tar) => tar.entry({ name: 'link' }, 'new')),
      options,
    );
    assert.equal(await readFile(join(dir, 'target'), 'utf8'), 'untouched');
    assert.equal(await readFile(join(dir, 'link'), 'utf8'), 'new');
  });

  const refused: readonly [string, (tar: ReturnType<typeof pack>) => void, RegExp][] = [
    ['names that climb', (tar) => tar.entry({ name: 'a/../../evil' }, 'x'), /leaves the destination/],
    ['absolute names', (tar) => tar.entry({ name: '/etc/evil' }, 'x'), /leaves the destination/],
    [
      'symlinks',
      (tar) => tar.entry({ name: 'l', type: 'symlink', linkname: '/etc' }),
      /neither a file nor a directory/,
    ],
    ['hard links', (tar) => tar.entry({ name: 'l', type: 'link', linkname: 'a' }), /neither a file nor a directory/],
    ['devices', (tar) => tar.entry({ name: 'd', type: 'character-device' }), /neither a file nor a directory/],
    [
      'names behind a link that leaves the root',
      (tar) => tar.entry({ name: 'out/evil' }, 'x'),
      /cannot make a directory/,
    ],
  ];
  for (const [name, fill, reason] of refused) {
    test(`an upload with ${name} is refused`, async () => {
      const { dir, options } = await place(`refused ${name}`);
      const outside = await place(`outside ${name}`);
      await symlink(outside.dir, join(dir, 'out'));
      await assert.rejects(client.uploadTar(dir, archive(fill), options), { code: 'guest_rejected', message: reason });
      assert.deepEqual(await readdir(outside.dir), []);
    });
  }

  test('an upload through a link to a place outside the root is refused', async () => {
    const { dir, options } = await place('link-dest');
    const outside = await place('link-dest-outside');
    await symlink(outside.dir, join(dir, 'out'));
    const upload = client.uploadTar(
      join(dir, 'out'),
      archive((tar) => tar.entry({ name: 'evil' }, 'x')),
      options,
    );
    await assert.rejects(upload, { code: 'guest_rejected' });
    assert.deepEqual(await readdir(outside.dir), []);
  });

  test('an upload that breaks off is refused, and one that is not tar', async () => {
    const { dir, options } = await place('broken');
    const whole = await buffer(archive((tar) => tar.entry({ name: 'file' }, 'x'.repeat(5000))));
    const cut = new PassThrough();
    cut.end(whole.subarray(0, 2000));
    await assert.rejects(client.uploadTar(dir, cut, options), { code: 'guest_rejected', message: /cut off/ });
    const noise = new PassThrough();
    noise.end(Buffer.alloc(2048, 'noise'));
    await assert.rejects(client.uploadTar(dir, noise, options), {
      code: 'guest_rejected',
      message: /not a tar archive/,
    });
  });

  test('an upload whose source fails reports the source’s error', async () => {
    const { dir, options } = await place('source');
    const source = new PassThrough();
    source.write(Buffer.alloc(100));
    setImmediate(() => source.destroy(new Error('the client went away')));
    await assert.rejects(client.uploadTar(dir, source, options), { message: 'the client went away' });
  });

  test('an error comes while the client still sends', async () => {
    const { dir, options } = await place('early');
    const endless = archive((tar) => {
      tar.entry({ name: '../evil' }, 'x');
      tar.entry({ name: 'large' }, Buffer.alloc(30_000_000));
    });
    await assert.rejects(client.uploadTar(dir, endless, options), {
      code: 'guest_rejected',
      message: /leaves the destination/,
    });
  });

  test('a directory the user may not write is refused', async () => {
    const { dir, options } = await place('foreign');
    await chown(dir, 0, 0);
    const upload = client.uploadTar(
      dir,
      archive((tar) => tar.entry({ name: 'a' }, 'x')),
      options,
    );
    await assert.rejects(upload, { code: 'guest_rejected', message: /Permission denied/ });
  });

  test('a download holds the tree as it is: links as links, sockets left out', async () => {
    const { dir, options } = await place('down');
    const long = 'n'.repeat(180);
    await mkdir(join(dir, 'sub'));
    await writeFile(join(dir, 'sub', long), 'long name');
    await writeFile(join(dir, 'a'), 'A');
    await symlink('a', join(dir, 'link'));
    await symlink('t'.repeat(150), join(dir, 'far'));
    const server = createServer().listen(join(dir, 'socket'));
    await once(server, 'listening');
    await runCommand('chown', ['-R', `${owner.uid}`, dir]);
    const entries = await unpackedHere(await client.downloadTar(dir, options));
    server.close();
    assert.deepEqual([...entries.keys()].sort(), ['./', './a', './far', './link', './sub/', `./sub/${long}`]);
    assert.deepEqual(entries.get('./a'), { type: 'file', content: 'A', linkname: null });
    assert.equal(entries.get('./link')?.linkname, await readlink(join(dir, 'link')));
    assert.equal(entries.get('./far')?.linkname, 't'.repeat(150));
    assert.equal(entries.get(`./sub/${long}`)?.content, 'long name');
  });

  test('a download of a file is one entry', async () => {
    const { dir, options } = await place('one');
    await writeFile(join(dir, 'file'), 'content');
    const entries = await unpackedHere(await client.downloadTar(join(dir, 'file'), options));
    assert.deepEqual([...entries], [['file', { type: 'file', content: 'content', linkname: null }]]);
  });

  test('a download is whole however slowly it is read', async () => {
    const { dir, options } = await place('slow');
    await writeFile(join(dir, 'file'), Buffer.alloc(700_000, 'slow'), { mode: 0o644 });
    const body = await client.downloadTar(join(dir, 'file'), options);
    let length = 0;
    for await (const chunk of body) {
      length += (chunk as Buffer).length;
      await client.ready(1000);
    }
    assert.equal(length, 512 + Math.ceil(700_000 / 512) * 512 + 1024);
  });

  test('a download that nobody reads to its end leaves the session well', async () => {
    const { dir, options } = await place('abandoned');
    await writeFile(join(dir, 'file'), Buffer.alloc(20_000_000));
    for (let round = 0; round < 200; round++) {
      const body = await client.downloadTar(join(dir, 'file'), options);
      body.destroy();
    }
    assert.equal((await client.ready(5000)).protocol, 1);
  });

  test('what GNU tar reads from a download is what was there', async () => {
    const { dir, options } = await place('gnu');
    await mkdir(join(dir, 'd'.repeat(200)));
    await writeFile(join(dir, 'd'.repeat(200), 'f'.repeat(200)), 'x'.repeat(1000));
    await runCommand('chown', ['-R', `${owner.uid}`, dir]);
    const path = join(root, 'gnu.tar');
    await writeFile(path, await client.downloadTar(dir, options));
    const { stdout } = await runCommand('tar', ['-tf', path]);
    assert.deepEqual(stdout.trim().split('\n'), [
      './',
      `./${'d'.repeat(200)}/`,
      `./${'d'.repeat(200)}/${'f'.repeat(200)}`,
    ]);
  });

  test('a tree that cannot be archived as a whole is refused before its first byte', async () => {
    const secret = await place('secret');
    await writeFile(join(secret.dir, 'a'), 'x'.repeat(3_000_000));
    await chown(join(secret.dir, 'a'), owner.uid, owner.gid);
    await writeFile(join(secret.dir, 'z-secret'), 'secret', { mode: 0o600 });
    const deep = await place('deep');
    await mkdir(join(deep.dir, 'd/'.repeat(600)), { recursive: true });
    for (const [{ dir, options }, message] of [
      [secret, /cannot open a file: Permission denied/],
      [deep, /the tree is too deep/],
    ] as const)
      await assert.rejects(client.downloadTar(dir, options), { code: 'guest_rejected', message });
  });

  test('what the user may not read any more breaks the download off', async () => {
    const { dir, options } = await place('changing');
    const paths = ['one', 'other'].map((name) => join(dir, name));
    for (const path of paths) await writeFile(path, Buffer.alloc(20_000_000));
    /** Whichever is read first is far from its end when the other is closed to the user. */
    const download = async () => {
      for (const path of paths) await chmod(path, 0o644);
      const body = await client.downloadTar(dir, options);
      for (const path of paths) await chmod(path, 0o600);
      return body;
    };
    await assert.rejects(buffer(await download()), { code: 'guest_interrupted' });
    // Whoever looks at it later sees the same.
    const late = await download();
    await new Promise((resolve) => late.resume().on('close', resolve));
    await assert.rejects(buffer(late), { code: 'guest_interrupted' });
  });

  test('a download from a guest that is let go of is broken off, wherever it was', async () => {
    const { dir, options } = await place('let-go');
    await writeFile(join(dir, 'file'), Buffer.alloc(20_000_000, 1));
    await chmod(join(dir, 'file'), 0o644);
    for (const chunks of [1, 2, 10, 30]) {
      const other = await LocalGuest.start();
      const itsClient = createGuestClient(other.openChannel);
      try {
        const body = await itsClient.downloadTar(join(dir, 'file'), options);
        let seen = 0;
        body.on('data', () => {
          if (++seen === chunks) itsClient.close();
        });
        await assert.rejects(buffer(body), { code: 'guest_interrupted' }, `after ${chunks} chunks`);
      } finally {
        await other.destroy();
      }
    }
  });

  const outside: readonly [string, string][] = [
    ['a missing path', 'missing'],
    ['a path that climbs', '../../etc/passwd'],
    ['a link that leaves the root', 'escape'],
  ];
  for (const [name, path] of outside) {
    test(`a download of ${name} is refused`, async () => {
      const { dir, options } = await place(`outside-${path.replaceAll('/', '_')}`);
      await symlink('/etc', join(dir, 'escape'));
      await assert.rejects(client.downloadTar(`${dir}/${path}`, options), { code: 'guest_rejected' });
    });
  }

  test('a large archive arrives whole both ways', async () => {
    const { dir, options } = await place('large');
    const content = Buffer.alloc(40_000_000);
    for (let at = 0; at < content.length; at += 4) content.writeUInt32LE((at * 2654435761) >>> 0, at);
    await client.uploadTar(
      dir,
      archive((tar) => tar.entry({ name: 'large' }, content)),
      options,
    );
    assert.ok((await readFile(join(dir, 'large'))).equals(content));
    const received = await buffer(await client.downloadTar(join(dir, 'large'), options));
    assert.ok(received.subarray(512, 512 + content.length).equals(content));
  });
});
