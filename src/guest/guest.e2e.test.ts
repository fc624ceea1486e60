import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { PassThrough } from 'node:stream';
import { text } from 'node:stream/consumers';
import { pipeline } from 'node:stream/promises';
import { after, before, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { extract, pack } from 'tar-stream';

import { buildImage } from '../image/build.ts';
import { createGuestClient } from './client.ts';
import type { GuestClient, GuestExecRequest, GuestIdentity } from './guest.ts';
import { QemuGuest, type QemuGuestOptions } from './testing/qemu-guest.ts';

const BOOT_MS = 120_000;
const MAC = '52:54:00:12:34:56';
const request = { cwd: '/', env: { PATH: '/usr/bin:/bin' }, uid: 0, gid: 0, timeoutMs: 60_000 } as const;

async function image(): Promise<QemuGuestOptions> {
  const { BERTH_TEST_KERNEL: kernel, BERTH_TEST_ROOTFS: rootfs } = process.env;
  return kernel && rootfs ? { kernel, rootfs } : await buildImage('sandbox');
}

let guest: QemuGuest;
let client: GuestClient;

async function shell(script: string, options: Partial<GuestExecRequest> = {}) {
  const exec = client.exec({ ...request, argv: ['/bin/sh', '-c', script], ...options });
  const [stdout, stderr, exit] = await Promise.all([text(exec.stdout), text(exec.stderr), exec.exit]);
  return { stdout, stderr, ...exit };
}

function identity(change: Partial<GuestIdentity> = {}): GuestIdentity {
  return { hostname: 'berth-test', unixTimeMs: Date.now(), entropy: randomBytes(64), network: null, ...change };
}

describe('a guest in a machine of its own', () => {
  before(async () => {
    const { kernel, rootfs } = await image();
    const nic = ['-netdev', 'user,id=net0,restrict=on', '-device', `virtio-net-device,netdev=net0,mac=${MAC}`];
    guest = await QemuGuest.start({ kernel, rootfs, diskSize: '5G', extra: nic });
    client = createGuestClient(guest.openChannel);
  });

  after(async () => {
    client.close();
    await guest.destroy();
  });

  test('answers', async () => {
    const hello = await client.ready(BOOT_MS);
    assert.match(hello.bootId, /^[0-9a-f-]{36}$/);
    assert.equal((await shell('uname -r')).stdout.trim(), hello.kernel);
    assert.equal((await shell('cat /proc/sys/kernel/random/boot_id')).stdout.trim(), hello.bootId);
  });

  test('becomes the machine it is told to be', async () => {
    const network = {
      mac: MAC,
      ipv4: '172.16.9.2/24',
      gateway4: '172.16.9.1',
      ipv6: 'fd00:9::2/64',
      gateway6: 'fd00:9::1',
      nameservers: ['172.16.9.1', 'fd00:9::1'],
    };
    const unixTimeMs = Date.UTC(2031, 4, 6);
    await client.configure(identity({ unixTimeMs, network }));
    const { stdout } = await shell(
      'hostname; date +%Y-%m-%d; cat /etc/hostname /etc/resolv.conf; wc -c < /etc/machine-id',
    );
    assert.deepEqual(stdout.split('\n').slice(0, -1), [
      'berth-test',
      '2031-05-06',
      'berth-test',
      'nameserver 172.16.9.1',
      'nameserver fd00:9::1',
      '33',
    ]);
    const addresses = JSON.parse((await shell('ip -j address')).stdout) as {
      address: string;
      flags: string[];
      addr_info: { local: string; prefixlen: number; scope: string }[];
    }[];
    const nic = addresses.find(({ address }) => address === MAC);
    const given = nic?.addr_info
      .filter(({ scope }) => scope === 'global')
      .map(({ local, prefixlen }) => `${local}/${prefixlen}`);
    assert.deepEqual(given, ['172.16.9.2/24', 'fd00:9::2/64']);
    assert.ok(nic?.flags.includes('UP'));
    const routes = (await shell('ip route; ip -6 route')).stdout;
    assert.match(routes, /^default via 172\.16\.9\.1 /m);
    assert.match(routes, /^default via fd00:9::1 /m);
    assert.equal((await shell('ip -j link show lo')).stdout.includes('"UP"'), true);
  });

  test('can be another machine afterwards: new MAC, new addresses, the old ones gone', async () => {
    const network = {
      mac: '52:54:00:65:43:21',
      ipv4: '172.16.8.7/24',
      gateway4: '172.16.8.1',
      ipv6: null,
      gateway6: null,
      nameservers: [],
    };
    await client.configure(identity({ hostname: 'other', network }));
    const { stdout } = await shell('hostname; ip address; ip route; cat /etc/resolv.conf');
    assert.match(stdout, /^other$/m);
    assert.match(stdout, /link\/ether 52:54:00:65:43:21/);
    assert.match(stdout, /inet 172\.16\.8\.7\/24/);
    assert.match(stdout, /default via 172\.16\.8\.1/);
    assert.doesNotMatch(stdout, /172\.16\.9\.2|fd00:9::2/);
    assert.match(stdout, /nameserver 172\.16\.9\.1/);
  });

  test('refuses an identity that makes no sense', async () => {
    const network = { mac: MAC, ipv4: '172.16.9.2', gateway4: null, ipv6: null, gateway6: null, nameservers: [] };
    await assert.rejects(client.configure(identity({ network })), { code: 'guest_rejected' });
    await assert.rejects(client.configure(identity({ hostname: 'a b' })), { code: 'guest_rejected' });
  });

  test('its root file system fills its disk', async () => {
    const { stdout } = await shell('stat -f -c "%S %b" /');
    const [blockSize, blocks] = stdout.trim().split(' ').map(Number) as [number, number];
    assert.ok(blockSize * blocks > 4.5 * 2 ** 30, `${blockSize * blocks} bytes`);
  });

  test('gives programs what they expect of a machine', async () => {
    const { stdout } = await shell(
      'cat /proc/1/comm; for f in /dev/null /dev/ptmx /dev/shm /proc/self/fd /sys/fs/cgroup/cgroup.procs /run; do test -e $f || echo missing $f; done; echo x > /dev/stderr; cat /proc/self/oom_score_adj; ls /modules /init 2>/dev/null',
    );
    assert.deepEqual(stdout.trim().split('\n'), ['init', '0']);
  });

  test('drops rights completely', async () => {
    const { stdout } = await shell('id; grep -E "^(CapEff|Groups)" /proc/self/status; cat /etc/shadow 2>&1', {
      uid: 1000,
      gid: 1000,
    });
    assert.match(stdout, /^uid=1000\S* gid=1000\S* groups=1000/);
    assert.match(stdout, /CapEff:\t0+\n/);
    assert.match(stdout, /Permission denied/);
  });

  test('kills what has hidden in sessions of its own at the timeout', async () => {
    const { timedOut, signal } = await shell(
      'setsid sh -c "setsid sleep 4242 & setsid sleep 4242 & sleep 4242" & wait',
      { timeoutMs: 2000 },
    );
    assert.deepEqual([timedOut, signal], [true, 9]);
    assert.equal((await shell('sleep 0.2; pgrep -cx sleep || true')).stdout.trim(), '0');
  });

  test('keeps what a finished program has left running, and forgets its group when that ends too', async () => {
    assert.equal((await shell('setsid sleep 4243 >/dev/null 2>&1 </dev/null & echo left')).stdout, 'left\n');
    assert.equal((await shell('pgrep -cx sleep')).stdout.trim(), '1');
    await shell('pkill -x sleep; sleep 0.5');
    const { stdout } = await shell('ls -d /sys/fs/cgroup/berth/exec-* | wc -l');
    assert.equal(stdout.trim(), '1');
  });

  test('streams a program’s input and output', async () => {
    const exec = client.exec({ ...request, argv: ['cat'], stdin: true });
    const sent = randomBytes(3_000_000);
    const hash = createHash('sha256');
    exec.stdin.end(sent);
    for await (const chunk of exec.stdout) hash.update(chunk as Buffer);
    assert.equal(hash.digest('hex'), createHash('sha256').update(sent).digest('hex'));
    assert.equal((await exec.exit).exitCode, 0);
  });

  test('gives a terminal', async () => {
    const exec = client.exec({
      ...request,
      argv: ['/bin/sh', '-c', 'stty size; stat -c %u $(tty); echo ready; read line; stty size'],
      env: { TERM: 'xterm' },
      uid: 1000,
      gid: 1000,
      pty: { cols: 81, rows: 25 },
    });
    let output = '';
    for await (const chunk of exec.stdout) {
      output += chunk;
      if (!output.endsWith('ready\r\n')) continue;
      exec.resize(132, 50);
      exec.stdin.write('go\n');
    }
    assert.equal(output, '25 81\r\n1000\r\nready\r\ngo\r\n50 132\r\n');
    assert.equal((await exec.exit).exitCode, 0);
  });

  test('large files go in and come out whole', async () => {
    const size = Number(process.env.BERTH_TEST_TRANSFER_MB ?? 48) * 1_000_000;
    const sent = createHash('sha256');
    const archive = pack();
    const content = async function* (): AsyncGenerator<Buffer> {
      for (let left = size; left > 0; ) {
        const chunk = randomBytes(Math.min(left, 1_000_000));
        left -= chunk.length;
        sent.update(chunk);
        yield chunk;
      }
    };
    const fill = async (): Promise<void> => {
      await pipeline(content, archive.entry({ name: 'large', size }));
      archive.finalize();
    };
    const options = { uid: 1000, gid: 1000, root: '/tmp' };
    await Promise.all([fill(), client.uploadTar('/tmp/up', archive.pipe(new PassThrough()), options)]);
    const expected = sent.digest('hex');
    assert.equal((await shell('sha256sum < /tmp/up/large')).stdout.split(' ')[0], expected);

    const received = createHash('sha256');
    const unpacked = extract();
    unpacked.on('entry', (header, file, next) => {
      assert.equal(header.size, size);
      file.on('data', (chunk) => received.update(chunk as Buffer));
      file.on('end', () => next());
    });
    await pipeline(await client.downloadTar('/tmp/up/large', options), unpacked);
    assert.equal(received.digest('hex'), expected);
  });

  test('connects to what listens inside', async () => {
    const server =
      'import socket,os; a=socket.socket(socket.AF_UNIX); a.bind("/tmp/in.sock"); a.listen(); b=socket.create_server(("127.0.0.1",8123)); print("up",flush=True)\nfor s in (a,b):\n c,_=s.accept(); c.sendall(b"hi "+c.recv(9)); c.close()';
    const exec = client.exec({ ...request, argv: ['python3', '-c', server] });
    await once(exec.stdout, 'data');
    for (const target of [{ unix: '/tmp/in.sock' }, { port: 8123 }]) {
      const socket = await client.connect(target);
      socket.write('there');
      assert.equal(await text(socket), 'hi there');
      socket.end();
    }
    assert.equal((await exec.exit).exitCode, 0);
    await assert.rejects(client.connect({ port: 8123 }), { code: 'guest_rejected' });
  });

  test('stops writing while frozen, and goes on when thawed or when the time is over', async () => {
    await client.sync();
    await client.freeze(60_000);
    const writer = client.exec({ ...request, argv: ['/bin/sh', '-c', 'echo $$; echo x > /root/frozen; echo written'] });
    let output = '';
    writer.stdout.on('data', (chunk) => {
      output += chunk;
    });
    const [pid] = (await once(writer.stdout, 'data')) as [Buffer];
    const waiting = `until grep -q "^State:.D" /proc/${pid.toString().trim()}/status; do sleep 0.05; done`;
    assert.equal((await shell(waiting)).exitCode, 0);
    assert.doesNotMatch(output, /written/);
    await client.thaw();
    assert.equal((await writer.exit).exitCode, 0);
    assert.match(output, /written/);
    await client.freeze(500);
    assert.equal((await shell('echo x > /root/thawed-by-itself')).exitCode, 0);
    await client.thaw();
  });

  test('a host that goes away in the middle of a program and comes back finds the guest well', async () => {
    await client.freeze(60_000);
    const exec = client.exec({ ...request, argv: ['/bin/sh', '-c', 'echo begun; exec sleep 4244'] });
    await once(exec.stdout, 'data');
    guest.disconnect();
    await assert.rejects(exec.exit, { code: 'guest_interrupted' });
    // The next call begins a new session; the file system is thawed and the program gone, once.
    const { stdout } = await shell('echo x > /root/back; sleep 0.3; pgrep -cx sleep || true');
    assert.equal(stdout.trim(), '0');
  });

  test('a second daemon takes over in the middle of a transfer', async () => {
    const exec = client.exec({ ...request, argv: ['cat', '/dev/zero'] });
    await once(exec.stdout, 'data');
    guest.disconnect();
    const heir = createGuestClient(guest.openChannel);
    assert.equal((await heir.ready(30_000)).protocol, 1);
    heir.close();
    await assert.rejects(exec.exit, { code: 'guest_interrupted' });
    assert.equal((await shell('pgrep -cx cat || true')).stdout.trim(), '0');
  });

  test('powers off in order', async () => {
    const exec = client.exec({
      ...request,
      argv: ['/bin/sh', '-c', 'trap "echo asked; exit 0" TERM; echo ready; while :; do sleep 0.1; done'],
    });
    const output = text(exec.stdout);
    await once(exec.stdout, 'data');
    await client.powerOff();
    await guest.exited();
    assert.match(await output, /^ready\n/);
    assert.match(await guest.console(), /Power down/);
  });
});

test('the power button powers off', async () => {
  const machine = await QemuGuest.start(await image());
  const host = createGuestClient(machine.openChannel);
  try {
    await host.ready(BOOT_MS);
    const exec = host.exec({
      ...request,
      argv: ['/bin/sh', '-c', 'until ls /dev/input/event* 2>/dev/null; do sleep 0.1; done'],
    });
    exec.stdout.resume();
    exec.stderr.resume();
    await exec.exit;
    // The button's driver is there a little before guest-init listens to it: a press before that is lost.
    const ended = machine.exited().then(() => true);
    do await Promise.race([ended, machine.monitor('system_powerdown')]);
    while (!(await Promise.race([ended, sleep(1000, false)])));
    assert.match(await machine.console(), /Power down/);
  } finally {
    host.close();
    await machine.destroy();
  }
});
