import assert from 'node:assert/strict';
import { createServer, type Server } from 'node:http';
import { after, before, describe, it } from 'node:test';
import { runCommand } from '../src/common/command.ts';
import { createVm, exec, expectStatus, type WireVm } from './support/api.ts';
import { startDaemon, type TestDaemon } from './support/daemon.ts';
import { eventually } from './support/eventually.ts';

/**
 * What VMs reach, tried from inside them. The "internet" is two addresses on an interface of this namespace; traffic to
 * them takes the same decision as traffic that is forwarded.
 */
const inside = ['203.0.113.1', '2001:db8::1'] as const;
const outside = ['203.0.113.2', '2001:db8::2'] as const;
const gateway = ['172.16.0.1', 'fd62:7274:6800::1'] as const;

describe('egress', () => {
  let daemon: TestDaemon;
  let server: Server;
  /** How often each path of each address was asked for. */
  const asked = new Map<string, number>();
  let open: WireVm;
  let closed: WireVm;
  let other: WireVm;

  before(async () => {
    daemon = await startDaemon();
    await runCommand('ip', ['link', 'add', 'internet0', 'type', 'bridge']);
    for (const address of [...inside, ...outside])
      await runCommand('ip', [
        'address',
        'add',
        `${address}/${address.includes(':') ? 128 : 32}`,
        'dev',
        'internet0',
        'nodad',
      ]);
    await runCommand('ip', ['link', 'set', 'internet0', 'up']);
    server = createServer(({ url, headers }, reply) => {
      const what = `${headers.host}${url}`;
      asked.set(what, (asked.get(what) ?? 0) + 1);
      reply.end('reached');
    });
    await new Promise<void>((resolve) => server.listen(8080, '::', resolve));
    const allowIps = inside.map((address) => `${address}/${address.includes(':') ? 128 : 32}`);
    open = await createVm(daemon, { outboundInternet: true, allowIps });
    other = await createVm(daemon, { outboundInternet: true, allowIps: ['0.0.0.0/0', '::/0'] });
    closed = await createVm(daemon, { outboundInternet: false, allowIps });
  });
  after(async () => {
    server?.close();
    await daemon?.stop();
    await runCommand('ip', ['link', 'delete', 'internet0']);
  });

  function hostOf(address: string): string {
    return `${address.includes(':') ? `[${address}]` : address}:8080`;
  }

  async function reaches(vm: WireVm, address: string): Promise<boolean> {
    const { exitCode, stdout } = await exec(daemon, vm.id, `curl -s --max-time 2 http://${hostOf(address)}/`);
    assert.equal(exitCode === 0, stdout === 'reached', `curl ${exitCode}: ${stdout}`);
    return exitCode === 0;
  }

  for (const [what, vm, addresses, expected] of [
    ['a listed address is reached', () => open, inside, true],
    ['an address that is not listed is not', () => open, outside, false],
    ['nor is the gateway', () => open, gateway, false],
    ['a list of everything means everything, the gateway included', () => other, [...outside, ...gateway], true],
    ['without outbound internet nothing is reached, listed or not', () => closed, [...inside, ...gateway], false],
  ] as const) {
    it(what, async () => {
      for (const address of addresses) assert.equal(await reaches(vm(), address), expected, address);
    });
  }

  it('does not reach another VM', async () => {
    await exec(daemon, open.id, 'setsid python3 -m http.server 8080 >/dev/null 2>&1 &');
    await eventually('the server answers in its own VM', async () => {
      return (await exec(daemon, open.id, 'curl -s -o /dev/null http://localhost:8080/')).exitCode === 0;
    });
    assert.equal(await reaches(other, open.guestIp), false);
  });

  it('is decided the same while no daemon runs, and by the next one', async () => {
    for (const [vm, path] of [
      [open, '/open'],
      [closed, '/closed'],
    ] as const) {
      const tries = [...outside, ...inside].map((address) => `curl -s --max-time 1 http://${hostOf(address)}${path}`);
      await exec(daemon, vm.id, `setsid sh -c 'while :; do ${tries.join('; ')}; done' >/dev/null 2>&1 &`);
    }
    await daemon.kill();
    asked.clear();
    const allowed = inside.map((address) => `${hostOf(address)}/open`);
    // Each of them tries every address in turn: what is not reached in as many rounds is not reached.
    await eventually('what is listed is reached again and again', async () =>
      allowed.every((what) => (asked.get(what) ?? 0) >= 3),
    );
    assert.deepEqual([...asked.keys()].sort(), allowed.toSorted());
    daemon = await daemon.restart();
    assert.equal(await reaches(open, inside[0]), true);
    assert.equal(await reaches(open, outside[0]), false);
    assert.equal(await reaches(closed, inside[0]), false);
  });

  it('is refused before anything is made when the list has no CIDR in it', async () => {
    const { message } = await expectStatus<{ message: string }>(daemon, 400, 'POST', '/v1/vms', {
      cpu: 1,
      memMb: 256,
      allowIps: ['10.0.0.0/33'],
    });
    assert.match(message, /10\.0\.0\.0\/33/);
  });
});
