import assert from 'node:assert/strict';
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { readFile, readlink } from 'node:fs/promises';
import { connect } from 'node:net';
import { after, before, describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { listPids, readProcessFile, signalProcess } from '../src/common/processes.ts';
import { createVm, expectStatus, output, vmState, type WireVm } from './support/api.ts';
import { startDaemon, type TestDaemon } from './support/daemon.ts';
import { eventually } from './support/eventually.ts';
import { traces } from './support/leftovers.ts';

/** What a VM is parked after here: as short as can be said. */
const parkAfterSeconds = 1;
const echoPort = 7007;

/** Sends each datagram back to where it came from, and takes connections. */
const echoServer = `import socket
t = socket.create_server(("0.0.0.0", ${echoPort}))
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind(("0.0.0.0", ${echoPort}))
while True:
  data, peer = s.recvfrom(1500)
  s.sendto(data, peer)`;

describe('parking', () => {
  let daemon: TestDaemon;
  let vm: WireVm;

  before(async () => {
    daemon = await startDaemon();
    vm = await createVm(daemon, { parkAfterSeconds });
  });
  after(() => daemon?.stop());

  async function isParked(): Promise<boolean> {
    const { state, parked } = await expectStatus<WireVm & { parked?: boolean }>(daemon, 200, 'GET', `/v1/vms/${vm.id}`);
    assert.equal(state, 'RUNNING');
    return parked === true;
  }

  function parked(): Promise<void> {
    return eventually('the VM is parked', isParked);
  }

  async function qemu(): Promise<number> {
    for (const pid of await listPids())
      if ((await readProcessFile(pid, 'cmdline'))?.includes(`-name\0berth-${vm.id}:`)) return pid;
    return assert.fail('the VM has no process');
  }

  /** The processes that wait for packets in this network: one for each daemon, unless some outlived theirs. */
  async function tapWatches(): Promise<readonly number[]> {
    const own = await readlink('/proc/self/ns/net');
    const found: number[] = [];
    for (const pid of await listPids())
      if ((await readProcessFile(pid, 'cmdline'))?.startsWith('berth-tap-watch'))
        if ((await readlink(`/proc/${pid}/ns/net`)) === own) found.push(pid);
    return found;
  }

  async function cpuTicks(pid: number): Promise<number> {
    const [user, system] = (await readFile(`/proc/${pid}/stat`, 'utf8')).split(') ')[1]!.split(' ').slice(11, 13);
    return Number(user) + Number(system);
  }

  /** Sends one datagram, once, and waits for it to come back. */
  async function echo(text: string, timeoutMs = 20_000): Promise<string> {
    const socket = createSocket('udp4');
    try {
      const answered = once(socket, 'message', { signal: AbortSignal.timeout(timeoutMs) });
      socket.send(text, echoPort, vm.guestIp);
      const [message] = (await answered) as [Buffer];
      return message.toString();
    } finally {
      socket.close();
    }
  }

  /** Wakes the VM by a datagram, and waits until it is parked again. It answers a little before it is noted as awake. */
  async function wakeByPacket(text: string): Promise<void> {
    assert.equal(await echo(text), text);
    await eventually('the VM is awake', async () => !(await isParked()));
    await parked();
  }

  /** Sends that many datagrams, to a port where nobody waits for them. */
  async function flood(count: number): Promise<void> {
    const socket = createSocket('udp4');
    const sent = Array.from(
      { length: count },
      () => new Promise((resolve) => socket.send(Buffer.alloc(64), echoPort + 1, vm.guestIp, resolve)),
    );
    await Promise.all(sent);
    socket.close();
  }

  it('stops an idle VM, which uses no processor time then and is running to clients', async () => {
    await parked();
    const pid = await qemu();
    // What the process still had to do has been done.
    await sleep(500);
    const before = await cpuTicks(pid);
    await sleep(3000);
    assert.equal(await cpuTicks(pid), before);
    assert.equal(await isParked(), true);
  });

  it('wakes a VM for a command, which finds the right time', async () => {
    await parked();
    const earliest = Date.now();
    const guest = Number(await output(daemon, vm.id, 'date +%s%3N'));
    const latest = Date.now();
    assert.ok(earliest - 20 <= guest && guest <= latest + 20, `${earliest} ${guest} ${latest}`);
    assert.equal(await isParked(), false);
  });

  it('wakes a VM for a packet, which it gets', async () => {
    await output(daemon, vm.id, `setsid python3 -c '${echoServer}' >/dev/null 2>&1 &`);
    await eventually('the server answers', () =>
      echo('ready', 1000).then(
        () => true,
        () => false,
      ),
    );
    await parked();
    await wakeByPacket('wake up');
  });

  it('leaves a VM running that computes', async () => {
    await output(daemon, vm.id, 'setsid sh -c "while [ ! -e /tmp/stop ]; do :; done" >/dev/null 2>&1 &');
    const began = await cpuTicks(await qemu());
    for (let ticks = 0; ticks < 300; ticks = (await cpuTicks(await qemu())) - began) {
      assert.equal(await isParked(), false);
      await sleep(200);
    }
    await output(daemon, vm.id, 'touch /tmp/stop');
  });

  it('keeps a VM parked while the daemon is away, and finds it so', async () => {
    await parked();
    const pid = await qemu();
    await daemon.kill();
    const ticks = await cpuTicks(pid);
    daemon = await daemon.restart();
    assert.equal(await isParked(), true);
    await wakeByPacket('after a restart');
    assert.equal(await qemu(), pid);
    assert.ok((await cpuTicks(pid)) > ticks);
  });

  it('is reached by what was sent while the daemon was away, once there is a daemon', async () => {
    await parked();
    await daemon.kill();
    const sentOnce = echo('while nobody looked', 100_000);
    // More than its tap can hold.
    await flood(3000);
    const connection = connect({ host: vm.guestIp, port: echoPort, timeout: 100_000 });
    const connected = once(connection, 'connect', { signal: AbortSignal.timeout(100_000) });
    await sleep(500);
    assert.equal(connection.connecting, true);
    daemon = await daemon.restart();
    await connected;
    connection.destroy();
    assert.equal(await sentOnce, 'while nobody looked');
    await parked();
    await wakeByPacket('and now');
  });

  it('wakes VMs when nobody looks for packets any more', async () => {
    await parked();
    for (const pid of await tapWatches()) signalProcess(pid, 'SIGKILL');
    await eventually('it is awake', async () => !(await isParked()));
  });

  it('takes a snapshot of a parked VM', async () => {
    await parked();
    await expectStatus(daemon, 201, 'POST', `/v1/vms/${vm.id}/snapshots`, {});
    await parked();
  });

  for (const [point, wake] of [
    ['park.note.after', false],
    ['park.stop.after', false],
    ['wake.go.after', true],
    ['wake.note.after', true],
  ] as const) {
    it(`is got over when the daemon is killed at ${point}`, async () => {
      if (wake) await parked();
      else await output(daemon, vm.id, 'true');
      const before = await traces(daemon.home);
      await daemon.kill();
      daemon = await daemon.restart({ env: { BERTH_FAILPOINT: point } });
      if (wake) await assert.rejects(output(daemon, vm.id, 'true'));
      assert.equal(await daemon.ended, null);
      daemon = await daemon.restart({ env: {} });
      assert.equal(await output(daemon, vm.id, 'echo well'), 'well\n');
      await parked();
      await wakeByPacket(point);
      assert.deepEqual(await traces(daemon.home), before);
      assert.equal((await tapWatches()).length, 1);
    });
  }

  it('stops and starts a parked VM', async () => {
    await parked();
    await expectStatus(daemon, 204, 'POST', `/v1/vms/${vm.id}/stop`);
    assert.equal(await vmState(daemon, vm.id), 'STOPPED');
    await expectStatus(daemon, 204, 'POST', `/v1/vms/${vm.id}/start`);
    assert.equal(await isParked(), false);
    await parked();
    await expectStatus(daemon, 204, 'DELETE', `/v1/vms/${vm.id}`);
  });

  it('refuses times that are none before anything is made', async () => {
    for (const wrong of [-1, 1.5, 100_000])
      await expectStatus(daemon, 400, 'POST', '/v1/vms', { cpu: 1, memMb: 256, allowIps: [], parkAfterSeconds: wrong });
    assert.deepEqual(await expectStatus(daemon, 200, 'GET', '/v1/vms'), []);
  });
});
