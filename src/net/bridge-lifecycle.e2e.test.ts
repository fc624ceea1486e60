import assert from 'node:assert/strict';
import { join } from 'node:path';
import { test } from 'node:test';
import { createBridgePlan } from './bridge-plan.ts';
import type { VmNetwork } from './network.ts';
import {
  all,
  type BridgeLab,
  destinations,
  everything,
  type Guests,
  gateway4,
  labForAll,
  plan,
  port,
  reachable,
  vmAt,
  vms,
  world4,
  world6,
} from './testing/bridge-lab.ts';
import { Namespace } from './testing/lab.ts';

let lab: BridgeLab;
let host: Namespace;
let guests: Guests;
let stateDir: string;

labForAll((opened) => {
  lab = opened;
  ({ host, guests, stateDir } = lab);
});

test('a second bridge beside the first touches nothing of it', async (t) => {
  const other = createBridgePlan({ bridge: 'berth1', address4: '172.17.0.1/24', address6: null, resolver: false });
  const vm: VmNetwork = {
    ...vmAt('172.16.0.2', everything),
    vmId: 'other',
    ipv4: '172.17.0.2',
    ipv6: null,
    mac: other.macFor('172.17.0.2'),
    tap: other.tapFor('172.17.0.2'),
  };
  const guest = await Namespace.create(`${lab.unique}x`);
  t.after(() => guest.remove());
  await host.do('network', 'other', {
    bridge: 'berth1',
    address4: '172.17.0.1/24',
    address6: null,
    resolver: false,
    stateDir: join(stateDir, 'other'),
  });
  assert.equal(await host.do('call', 'other', 'reconcile', []), undefined);
  await guest.ip(
    `link add eth0 address ${vm.mac} type veth peer name ${vm.tap} netns ${host.name}`,
    'link set eth0 up',
    `addr add ${vm.ipv4}/24 dev eth0`,
    'route add default via 172.17.0.1',
  );
  assert.equal(await host.do('call', 'other', 'attach', vm), undefined);
  assert.deepEqual(await reachable(guest, [world4[1], '172.17.0.1', vms.open.ipv4]), [world4[1], '172.17.0.1']);
  assert.deepEqual(await reachable(guests.open, [vm.ipv4]), []);
  assert.equal(await guest.do('tcp', gateway4, 53), 'blocked');
  assert.equal(await host.do('call', 'main', 'reconcile', all), undefined);
  assert.equal(await host.do('call', 'other', 'attached', vm), true);
  assert.equal(await host.do('call', 'other', 'teardown'), undefined);
  assert.ok(!(await host.run('nft', 'list', 'tables')).includes('berth1'));
  assert.ok(!(await host.run('ip', '-br', 'link')).includes('berth1'));
  assert.equal(await host.do('call', 'main', 'attached', vms.open), true);
});

test('leases from before a change of the addresses are cut off and can be detached', async (t) => {
  const old = { bridge: 'moved0', address4: '172.19.0.1/24', address6: null, resolver: false as const };
  const oldPlan = createBridgePlan(old);
  const vmOfOld = (ipv4: string): VmNetwork => ({
    ...vmAt('172.16.0.2', everything),
    vmId: `old-${ipv4}`,
    ipv4,
    ipv6: null,
    mac: oldPlan.macFor(ipv4),
    tap: oldPlan.tapFor(ipv4),
  });
  const running = vmOfOld('172.19.0.2');
  const stopped = vmOfOld('172.19.0.3');
  await host.do('network', 'old', { ...old, stateDir: join(stateDir, 'other') });
  t.after(() => host.do('call', 'moved', 'teardown'));
  assert.equal(await host.do('call', 'old', 'reconcile', []), undefined);
  assert.equal(await host.do('call', 'old', 'attach', running), undefined);

  await host.do('network', 'moved', { ...old, address4: '172.20.0.1/24', stateDir: join(stateDir, 'other') });
  assert.equal(await host.do('call', 'moved', 'reconcile', [running]), undefined);
  const [link] = JSON.parse(await host.run('ip', '-j', 'link', 'show', 'dev', running.tap)) as {
    master?: string;
    flags: string[];
  }[];
  assert.deepEqual([link?.master, link?.flags.includes('UP')], [undefined, false]);
  assert.ok(!(await host.run('nft', 'list', 'ruleset')).includes(running.ipv4));
  assert.equal(await host.do('call', 'moved', 'attach', running), 'conflict');
  assert.equal(await host.do('call', 'moved', 'attached', running), true, 'there is something to detach');

  assert.equal(await host.do('call', 'moved', 'detach', running), undefined);
  assert.equal(await host.do('call', 'moved', 'attached', running), false);
  assert.deepEqual(await lab.taps(old.bridge), []);
  const next = { ...running, vmId: 'next', ipv4: '172.20.0.2' };
  assert.equal(await host.do('call', 'moved', 'attach', next), undefined);
  assert.equal(await host.do('call', 'moved', 'detach', running), undefined);
  assert.equal(await host.do('call', 'moved', 'attached', next), true, 'the tap is that of its next owner');
  await host.ip(`tuntap add dev ${stopped.tap} mode tap`);
  assert.equal(await host.do('call', 'moved', 'detach', stopped), undefined);
  assert.deepEqual(await lab.taps(old.bridge), [next.tap]);
});

test('an interface of somebody else is not taken over', async () => {
  await host.ip('link add foreign0 type bridge');
  await host.do('network', 'foreign', {
    bridge: 'foreign0',
    address4: '172.18.0.1/24',
    address6: null,
    resolver: false,
    stateDir: join(stateDir, 'other'),
  });
  assert.equal(await host.do('call', 'foreign', 'reconcile', []), 'network_failed');
  assert.equal(await host.do('call', 'foreign', 'teardown'), 'network_failed');
  await host.ip('link del foreign0');
  assert.equal(await host.do('call', 'foreign', 'teardown'), undefined);
});

test('after a crash, reconcile keeps connections, removes strays and replaces the resolver', async () => {
  const argv = lab.resolverArgv;
  await guests.open.do('hold', 'kept', world4[1], port);
  assert.equal(await guests.open.do('echo', 'kept', 'before'), true);
  const earlier = await host.do('findProcesses', argv);
  assert.equal(earlier.length, 1);

  await host.kill();
  await host.ip(`tuntap add dev ${plan.tapFor('172.16.0.77')} mode tap`);
  assert.deepEqual(await host.do('findProcesses', argv), earlier, 'the resolver outlives the daemon');
  assert.equal(await guests.listed.do('resolve', gateway4), '192.0.2.7');

  await lab.startNetwork();
  assert.equal(await host.do('call', 'main', 'reconcile', all), undefined);
  assert.equal(await guests.open.do('echo', 'kept', 'after'), true);
  const later = await host.do('findProcesses', argv);
  assert.equal(later.length, 1);
  assert.notDeepEqual(later, earlier);
  assert.equal(await guests.listed.do('resolve', gateway4), '192.0.2.7');
  assert.deepEqual(
    await lab.taps(),
    all.map(({ tap }) => tap),
  );
  assert.deepEqual(await reachable(guests.listed, destinations.slice(0, 4)), [world4[0], world6[0]]);
});

test('a resolver that dies comes back', async () => {
  const argv = lab.resolverArgv;
  const [earlier] = await host.do('findProcesses', argv);
  assert.ok(earlier);
  process.kill(earlier, 'SIGKILL');
  await assert.doesNotReject(async () => {
    for (let tries = 0; (await guests.listed.do('resolve', gateway4)) !== '192.0.2.7'; tries++) {
      if (tries === 20) throw new Error('the resolver did not come back');
    }
  });
});

test('closing leaves the resolver to VMs that run on; the next daemon takes over', async () => {
  await host.do('call', 'main', 'close');
  await host.kill();
  assert.equal(await guests.listed.do('resolve', gateway4), '192.0.2.7');
  await lab.startNetwork();
  assert.equal(await host.do('call', 'main', 'reconcile', all), undefined);
  assert.equal(await guests.listed.do('resolve', gateway4), '192.0.2.7');
});

test("detach takes the VM's network away at once; teardown leaves the host as it was", async () => {
  assert.equal(await host.do('call', 'main', 'detach', vms.open), undefined);
  assert.ok(!(await host.run('nft', 'list', 'ruleset')).includes(vms.open.ipv4));
  assert.deepEqual(
    await lab.taps(),
    [vms.closed, vms.listed, vms.empty].map(({ tap }) => tap),
  );
  assert.equal(await host.do('call', 'main', 'teardown'), undefined);
  assert.equal(await host.run('nft', 'list', 'ruleset'), '');
  assert.deepEqual(await lab.forwarding(), ['0', '0']);
  const links = JSON.parse(await host.run('ip', '-j', 'link')) as { ifname: string }[];
  assert.deepEqual(
    links.map(({ ifname }) => ifname),
    ['lo', 'up0'],
  );
  assert.deepEqual(await host.do('findProcesses', lab.resolverArgv), []);
});
