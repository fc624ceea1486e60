import assert from 'node:assert/strict';
import { createSocket } from 'node:dgram';
import { writeFile } from 'node:fs/promises';
import { after, afterEach, before, beforeEach, describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { pino } from 'pino';
import { assertPrivateNetwork } from '../../test/support/daemon.ts';
import { listPids, readProcessFile, signalProcess } from '../common/processes.ts';
import { runHostTool } from './host-tool.ts';
import { runIpBatch } from './ip-link.ts';
import { TapWatch } from './tap-watch.ts';

/** Interfaces `watch0`, …, with a neighbour each at 10.99.<n>.2. That they are no taps makes no difference here. */
const interfaces = 60;

describe('the tap watch', () => {
  let watch: TapWatch;
  let seen: string[];

  before(async () => {
    await assertPrivateNetwork();
    // The kernel's own announcements of IPv6 would be packets, too.
    await writeFile('/proc/sys/net/ipv6/conf/default/disable_ipv6', '1');
    await runIpBatch(
      Array.from({ length: interfaces }, (_, n) => [
        `link add watch${n} type veth peer name side${n}`,
        `link set watch${n} up`,
        `link set side${n} up`,
        `addr add 10.99.${n}.1/24 dev watch${n}`,
        `neigh replace 10.99.${n}.2 lladdr 02:00:00:00:00:02 dev watch${n} nud permanent`,
      ]).flat(),
    );
  });
  after(async () => {
    await runIpBatch(Array.from({ length: interfaces }, (_, n) => `link del watch${n}`));
    await writeFile('/proc/sys/net/ipv6/conf/default/disable_ipv6', '0');
  });
  // A helper that is left would keep the tests from ending.
  afterEach(() => watch.close());
  beforeEach(() => {
    watch = new TapWatch(pino({ level: 'silent' }));
    seen = [];
  });

  function expect(...taps: string[]): Promise<() => void> {
    return watch.onNextPacket(taps, () => seen.push(taps.join(' ')));
  }

  async function send(n: number): Promise<void> {
    const socket = createSocket('udp4');
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    socket.send('hello', 9, `10.99.${n}.2`, (error) => (error ? reject(error) : resolve()));
    await promise;
    socket.close();
  }

  /** Resolves once everything that was sent before has been seen, or not: what comes now comes after it. */
  async function settled(): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    await watch.onNextPacket([`watch${interfaces - 1}`], resolve);
    await send(interfaces - 1);
    await promise;
  }

  async function helpers(): Promise<readonly number[]> {
    const pids = await listPids();
    const titles = await Promise.all(pids.map((pid) => readProcessFile(pid, 'cmdline')));
    return pids.filter((_, index) => titles[index]?.startsWith('berth-tap-watch'));
  }

  it('tells of the next packet, once, and not of others', async () => {
    await expect('watch0');
    await send(1);
    await settled();
    assert.deepEqual(seen, []);
    await send(0);
    await send(0);
    await settled();
    assert.deepEqual(seen, ['watch0']);
    await expect('watch0');
    await send(0);
    await settled();
    assert.deepEqual(seen, ['watch0', 'watch0']);
    await watch.close();
  });

  it('watches several interfaces for one wish, and many wishes with one process', async () => {
    const before = (await helpers()).length;
    await expect('watch0', 'watch1');
    await Promise.all(Array.from({ length: interfaces - 3 }, (_, n) => expect(`watch${n + 2}`)));
    assert.equal((await helpers()).length, before + 1);
    await send(1);
    await send(40);
    await settled();
    assert.deepEqual(seen, ['watch0 watch1', 'watch40']);
    await watch.close();
    assert.equal((await helpers()).length, before);
  });

  it('does not count what comes from the other side', async () => {
    await expect('watch0');
    await expect('side0');
    // A frame from side0 to watch0.
    await runHostTool('perl', [
      '-e',
      `socket my $query, 2, 2, 0 or die; my $request = pack 'Z16 x24', 'side0'; ioctl $query, 0x8933, $request or die;
       my $to = pack 'S n i x12', 17, 0x88b5, unpack 'x16 i', $request;
       socket my $raw, 17, 3, 0 or die; send $raw, ("\\2" x 12) . "\\x88\\xb5" . ('x' x 50), 0, $to or die`,
    ]);
    await settled();
    assert.deepEqual(seen, ['side0']);
    await watch.close();
  });

  it('takes a wish back', async () => {
    const takeBack = await expect('watch0');
    takeBack();
    await send(0);
    await settled();
    assert.deepEqual(seen, []);
    await watch.close();
  });

  it('refuses what is not there, and goes on', async () => {
    await assert.rejects(expect('watch0', 'nowhere'), { code: 'network_failed' });
    await send(0);
    await settled();
    assert.deepEqual(seen, []);
    await watch.close();
  });

  it('outlives an interface that it watches', async () => {
    await runIpBatch(['link add gone0 type veth peer name gone1', 'link set gone0 addrgenmode none up']);
    await expect('gone0');
    await expect('watch0');
    await runIpBatch(['link del gone0']);
    await send(0);
    await settled();
    assert.deepEqual(seen, ['watch0']);
    await watch.close();
  });

  it('tells everybody when it dies, since packets may have been missed', async () => {
    const before = new Set(await helpers());
    await expect('watch0');
    await expect('watch1');
    for (const pid of await helpers()) if (!before.has(pid)) signalProcess(pid, 'SIGKILL');
    while (seen.length < 2) await sleep(5);
    assert.deepEqual(seen, ['watch0', 'watch1']);
    // One that dies at once is not started over and over again.
    await assert.rejects(expect('watch0'), { code: 'network_failed' });
    await watch.close();
  });

  it('tells nobody when it is closed', async () => {
    await expect('watch0');
    await watch.close();
    assert.deepEqual(seen, []);
  });
});
