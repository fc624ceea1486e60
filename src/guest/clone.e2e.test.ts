import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { Readable } from 'node:stream';
import { text } from 'node:stream/consumers';
import { after, before, describe, test } from 'node:test';

import { buildImage } from '../image/build.ts';
import { createGuestClient } from './client.ts';
import type { GuestClient, GuestIdentified, GuestIdentity } from './guest.ts';
import { QemuGuest, type QemuGuestOptions, type QemuSnapshot } from './testing/qemu-guest.ts';

const BOOT_MS = 120_000;
const BECOME_MS = 60_000;
const GIB = 2 ** 30;
const CLOCK_TOLERANCE_MS = 50;
const request = { cwd: '/', env: { PATH: '/usr/bin:/bin' }, uid: 0, gid: 0, timeoutMs: 60_000 } as const;

async function image(): Promise<QemuGuestOptions> {
  const { BERTH_TEST_KERNEL: kernel, BERTH_TEST_ROOTFS: rootfs } = process.env;
  return kernel && rootfs ? { kernel, rootfs } : await buildImage('sandbox');
}

async function shell(client: GuestClient, script: string): Promise<string> {
  const exec = client.exec({ ...request, argv: ['/bin/sh', '-c', script] });
  const [stdout, stderr, { exitCode }] = await Promise.all([text(exec.stdout), text(exec.stderr), exec.exit]);
  assert.deepEqual([stderr, exitCode], ['', 0], script);
  return stdout.trim();
}

/** The `number`th machine: everything that the host gives out differs from every other's. */
function identity(number: number, change: Partial<GuestIdentity> = {}): GuestIdentity {
  const network = {
    mac: `52:54:00:00:02:0${number}`,
    ipv4: `172.16.9.1${number}/24`,
    gateway4: '172.16.9.1',
    ipv6: `fd00:9::1${number}/64`,
    gateway6: 'fd00:9::1',
    nameservers: ['172.16.9.1'],
  };
  const entropy = randomBytes(64);
  return { hostname: `vm-${number}`, unixTimeMs: Date.now(), entropy, network, renew: true, ...change };
}

/** What must be no two machines' own. */
const unique = {
  random: 'head -c 32 /dev/urandom | od -An -tx1 | tr -d " \\n"',
  uuid: 'cat /proc/sys/kernel/random/uuid',
  hostname: 'hostname',
  hostnameFile: 'cat /etc/hostname',
  machineId: 'cat /etc/machine-id',
  sshKey: 'cat /etc/ssh/ssh_host_ed25519_key.pub',
  sshSecret: 'sha256sum < /etc/ssh/ssh_host_ed25519_key',
  mac: 'cat /sys/class/net/eth0/address',
  ipv4: 'ip -4 -o addr show eth0 | grep -o "inet [^ ]*"',
  ipv6: 'ip -6 -o addr show eth0 scope global | grep -o "inet6 [^ ]*"',
  linkLocal: 'ip -6 -o addr show eth0 scope link | grep -o "inet6 [^ ]*"',
} as const;

async function traits(client: GuestClient): Promise<Record<string, string>> {
  const names = Object.keys(unique);
  const lines = await shell(
    client,
    Object.values(unique)
      .map((command) => `echo "$(${command})"`)
      .join('; '),
  );
  return Object.fromEntries(lines.split('\n').map((line, index) => [names[index], line]));
}

/** The guest's clock is inside what the host's shows before and after, give or take. */
async function assertClockAgrees(client: GuestClient): Promise<void> {
  const earliest = Date.now() - CLOCK_TOLERANCE_MS;
  const guest = Number(await shell(client, 'date +%s%3N'));
  const latest = Date.now() + CLOCK_TOLERANCE_MS;
  assert.ok(earliest <= guest && guest <= latest, `${earliest} <= ${guest} <= ${latest}`);
}

function outcomes({ steps }: GuestIdentified): Record<string, string> {
  return Object.fromEntries(steps.map(({ name, outcome }) => [name, outcome]));
}

const renewed = {
  clock: 'done',
  entropy: 'done',
  sessions: 'done',
  thaw: 'done',
  network: 'done',
  hostname: 'done',
  nameservers: 'skipped',
  'machine-id': 'done',
  'ssh-host-keys': 'done',
  'random-seeds': 'done',
};

describe('copies of a machine that was saved in the middle of its work', () => {
  let snapshot: QemuSnapshot;
  let template: Record<string, string>;
  const seen: Record<string, string>[] = [];

  before(async () => {
    const nic = ['-netdev', 'user,id=net0,restrict=on', '-device', 'virtio-net-device,netdev=net0'];
    const machine = await QemuGuest.start({ ...(await image()), diskSize: '2G', extra: nic, canSnapshot: true });
    const client = createGuestClient(machine.openChannel);
    try {
      await client.ready(BOOT_MS);
      // Nothing was run yet, so that the guest knows what there is to remove without looking.
      await client.configure(identity(6));
      await client.configure(identity(1));
      assert.doesNotMatch(await shell(client, 'ip addr show eth0; ip -6 route'), /172\.16\.9\.16|::16|ff:fe00:206/);
      await shell(
        client,
        `ssh-keygen -q -t ed25519 -N "" -f /etc/ssh/ssh_host_ed25519_key
         echo secret > /etc/ssh/ssh_host_rsa_key; echo public > /etc/ssh/ssh_host_rsa_key.pub
         mkdir -p /var/lib/dbus /var/lib/systemd; cp /etc/machine-id /var/lib/dbus/machine-id
         echo seed > /var/lib/systemd/random-seed; ip addr add 172.16.77.7/24 dev eth0
         setsid sleep 4250 < /dev/null > /dev/null 2>&1 &
         cp /bin/sleep /tmp/sshd
         setsid sh -c 'echo $$ > /run/sshd.pid; exec /tmp/sshd 4252' < /dev/null > /dev/null 2>&1 &
         until grep -qx sshd /proc/$!/comm; do sleep 0.05; done`,
      );
      template = await traits(client);
      await keepBusy(client);
      await client.freeze(600_000);
      snapshot = await machine.snapshot();
    } catch (error) {
      await machine.destroy();
      throw error;
    } finally {
      client.close();
    }
  });

  after(async () => {
    await QemuGuest.discard(snapshot);
  });

  /** Leaves frames of both directions on their way, in the port and in the guest. */
  async function keepBusy(client: GuestClient): Promise<void> {
    const sender = client.exec({ ...request, argv: ['cat', '/dev/zero'] });
    sender.exit.catch(() => {});
    sender.stderr.resume();
    await once(sender.stdout, 'data');
    sender.stdout.pause();
    const receiver = client.exec({ ...request, argv: ['sleep', '4251'], stdin: true });
    receiver.exit.catch(() => {});
    receiver.stdout.resume();
    receiver.stderr.resume();
    receiver.stdin.on('error', () => {});
    Readable.from(
      (function* () {
        for (;;) yield randomBytes(65_536);
      })(),
    ).pipe(receiver.stdin);
    await once(receiver.stdin, 'drain');
  }

  for (const number of [2, 3]) {
    test(`copy ${number} is another machine`, async () => {
      const machine = await QemuGuest.restore(snapshot);
      const client = createGuestClient(machine.openChannel);
      try {
        // Asked while the machine stands still: it answers as soon as it goes on.
        const becoming = client.become(identity(number), BECOME_MS);
        await machine.resume();
        const identified = await becoming;
        assert.deepEqual(outcomes(identified), renewed);
        assert.ok(identified.clockSkewMs < 0, `${identified.clockSkewMs} ms`);
        seen.push(await traits(client));
        await assertClockAgrees(client);
        const left = await shell(
          client,
          'ls /etc/ssh /var/lib/systemd/random-seed 2>/dev/null | grep -e rsa -e seed; stat -c %a /etc/ssh/ssh_host_ed25519_key; ssh-keygen -y -f /etc/ssh/ssh_host_ed25519_key | cmp -n 80 - /etc/ssh/ssh_host_ed25519_key.pub && echo pair; cmp /etc/machine-id /var/lib/dbus/machine-id && echo same',
        );
        assert.equal(left, '600\npair\nsame');
        // Its stand-in for a server has not learned to survive being hung up.
        assert.equal(identified.steps.find(({ name }) => name === 'ssh-host-keys')?.detail, 'server told');
        assert.equal(await shell(client, 'pgrep -x sshd || true'), '');
        // What ran for the host of then is gone; what had been left to itself runs on. Files can be written.
        assert.equal(
          await shell(client, 'pgrep -x cat; pgrep -ax sleep | cut -d" " -f2-; touch /root/written'),
          'sleep 4250',
        );
        const routes = await shell(client, 'ip route; ip -6 route show default; ip addr show eth0');
        assert.match(routes, /^default via 172\.16\.9\.1 dev eth0/m);
        assert.match(routes, /^default via fd00:9::1 dev eth0/m);
        assert.doesNotMatch(routes, /172\.16\.9\.11|172\.16\.77|fd00:9::11|tentative/);
      } finally {
        client.close();
        await machine.destroy();
      }
    });
  }

  test('nothing is the same in any two of them', () => {
    for (const name of Object.keys(unique)) {
      const values = [template, ...seen].map((machine) => machine[name] ?? '');
      assert.ok(
        values.every((value) => value.length > 3),
        `${name}: ${values}`,
      );
      assert.equal(new Set(values).size, 3, `${name}: ${values}`);
    }
  });

  test('a copy can have a larger disk, and no network', async () => {
    const machine = await QemuGuest.restore(snapshot);
    const client = createGuestClient(machine.openChannel);
    try {
      const becoming = client.become(identity(4, { network: null, diskBytes: 3 * GIB }), BECOME_MS);
      await machine.resume();
      await machine.monitor('block_resize', { device: 'disk', size: 3 * GIB });
      const { nameservers: _, ...rest } = renewed;
      assert.deepEqual(outcomes(await becoming), { ...rest, disk: 'done' });
      const [blockSize, blocks] = (await shell(client, 'stat -f -c "%S %b" /')).split(' ').map(Number) as [
        number,
        number,
      ];
      assert.ok(blockSize * blocks > 2.7 * GIB, `${blockSize * blocks} bytes`);
      assert.equal(await shell(client, 'ip -o addr show eth0; ip route; cat /sys/class/net/eth0/operstate'), 'down');
    } finally {
      client.close();
      await machine.destroy();
    }
  });

  test('a copy that is given up before it runs is unavailable, not waited for', async () => {
    const machine = await QemuGuest.restore(snapshot);
    const client = createGuestClient(machine.openChannel);
    try {
      await assert.rejects(client.become(identity(5), 300), { code: 'guest_unavailable' });
      const becoming = client.become(identity(5), BECOME_MS);
      await machine.resume();
      assert.equal((await becoming).hello.protocol, 1);
      assert.equal(await shell(client, 'hostname'), 'vm-5');
      const addresses = await shell(client, 'ip -o addr show eth0');
      const again = await client.configure(identity(6, { network: null, keepNetwork: true }));
      const steps = outcomes(again);
      assert.deepEqual([steps.network, steps['machine-id'], steps.nameservers], ['skipped', 'done', undefined]);
      assert.equal(await shell(client, 'hostname'), 'vm-6');
      assert.equal(await shell(client, 'ip -o addr show eth0'), addresses);
    } finally {
      client.close();
      await machine.destroy();
    }
  });
});
