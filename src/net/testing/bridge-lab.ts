import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before } from 'node:test';
import { createBridgePlan } from '../bridge-plan.ts';
import type { Egress, VmNetwork } from '../network.ts';
import { Namespace, plugGuest } from './lab.ts';

export const bridge = 'berth0';
export const gateway4 = '172.16.0.1';
export const gateway6 = 'fd62:6572::1';
export const limits = { connections: 60, dnsPerSecond: 20 };
const addresses = { bridge, address4: `${gateway4}/24`, address6: `${gateway6}/64` };
export const plan = createBridgePlan({ ...addresses, resolver: true });

export const world4 = ['198.51.100.2', '198.51.100.3'] as const;
export const world6 = ['2001:db8:1::2', '2001:db8:1::3'] as const;
export const port = 7000;

export const closed: Egress = { outbound: false, allow: ['0.0.0.0/0', '::/0'] };
export const listed: Egress = { outbound: true, allow: [`${world4[0]}/32`, `${world6[0]}/128`] };
export const everything: Egress = { outbound: true, allow: ['0.0.0.0/0', '::/0'] };

export function vmAt(ipv4: string, egress: Egress): VmNetwork {
  return {
    vmId: `vm-${ipv4}`,
    tap: plan.tapFor(ipv4),
    mac: plan.macFor(ipv4),
    ipv4,
    ipv6: plan.ipv6For(ipv4),
    uid: null,
    egress,
  };
}

export const vms = {
  closed: vmAt('172.16.0.2', closed),
  listed: vmAt('172.16.0.3', listed),
  open: vmAt('172.16.0.4', everything),
  empty: vmAt('172.16.0.5', { outbound: true, allow: [] }),
};
export const all = Object.values(vms);

export type Guests = Readonly<Record<keyof typeof vms, Namespace>>;

/**
 * Everything in network namespaces: `host` runs the network, `world` is what lies behind its uplink and knows no route to
 * the guests, and the guests hang on veth pairs whose other ends have the names of taps.
 */
export class BridgeLab {
  /** For the names of further namespaces; no other test has it. */
  readonly unique: string;
  readonly stateDir: string;
  readonly host: Namespace;
  readonly world: Namespace;
  readonly guests: Guests;

  private constructor(unique: string, stateDir: string, host: Namespace, world: Namespace, guests: Guests) {
    this.unique = unique;
    this.stateDir = stateDir;
    this.host = host;
    this.world = world;
    this.guests = guests;
  }

  /** With the network running, every VM attached, and servers in all of them. */
  static async open(): Promise<BridgeLab> {
    const unique = `bt${process.pid}`;
    const stateDir = await mkdtemp(join(tmpdir(), 'berth-net-'));
    const host = await Namespace.create(`${unique}h`);
    const world = await Namespace.create(`${unique}w`);
    await host.ip(
      `link add up0 type veth peer name eth0 netns ${world.name}`,
      'addr add 198.51.100.1/24 dev up0',
      'addr add 2001:db8:1::1/64 dev up0 nodad',
      'link set up0 up',
    );
    await world.ip(
      ...world4.map((address) => `addr add ${address}/24 dev eth0`),
      `addr add ${world6[0]}/64 dev eth0 nodad`,
      // Not chosen as source: UDP servers answer from the address the route prefers.
      `addr add ${world6[1]}/64 dev eth0 nodad preferred_lft 0`,
      'link set eth0 up',
    );
    const guests: Guests = {
      closed: await Namespace.create(`${unique}c`),
      listed: await Namespace.create(`${unique}l`),
      open: await Namespace.create(`${unique}o`),
      empty: await Namespace.create(`${unique}e`),
    };
    await host.run('sysctl', '-q', 'net.ipv4.ip_forward=0', 'net.ipv6.conf.all.forwarding=0');
    const lab = new BridgeLab(unique, stateDir, host, world, guests);
    await lab.startNetwork();
    assert.equal(await host.do('call', 'main', 'reconcile', []), undefined);
    assert.deepEqual(await lab.forwarding(), ['1', '1']);
    for (const name of Object.keys(vms) as (keyof typeof vms)[])
      await plugGuest(guests[name], host, vms[name], { gateway4, gateway6 });
    // At once: the network itself puts them in order.
    await Promise.all(all.map(async (vm) => assert.equal(await host.do('call', 'main', 'attach', vm), undefined)));
    await Promise.all([
      host.do('serve', port),
      world.do('serve', port),
      world.do('serveDns'),
      ...Object.values(guests).map((guest) => guest.do('serve', port)),
    ]);
    return lab;
  }

  /** By a fresh daemon, whatever state a failed test left the last one in. */
  async close(): Promise<void> {
    const { guests, host, stateDir, world } = this;
    await host.kill();
    await this.startNetwork();
    await host.do('call', 'main', 'teardown');
    await Promise.all([host, world, ...Object.values(guests)].map((namespace) => namespace.remove()));
    await rm(stateDir, { recursive: true });
  }

  /** Another daemon's network on the host, where there was one before. */
  startNetwork(): Promise<void> {
    const { host, stateDir } = this;
    return host.do('network', 'main', { ...addresses, limits, resolver: { upstream: [world4[0]] }, stateDir });
  }

  /** A network's are all that are called after its bridge. */
  async taps(of = bridge): Promise<readonly string[]> {
    const links = JSON.parse(await this.host.run('ip', '-j', 'link')) as { ifname: string }[];
    return links.map(({ ifname }) => ifname).filter((name) => name.startsWith(`${of}-`));
  }

  /** Whether the host routes IPv4 and IPv6. */
  async forwarding(): Promise<readonly string[]> {
    const settings = await this.host.run('sysctl', '-n', 'net.ipv4.ip_forward', 'net.ipv6.conf.all.forwarding');
    return settings.trim().split('\n');
  }

  /** Command line of the resolver. */
  get resolverArgv(): readonly string[] {
    return ['dnsmasq', '--keep-in-foreground', `--conf-file=${this.stateDir}/resolver.conf`];
  }
}

/** One lab for all tests of a file, from before the first to after the last. `use` is handed it. */
export function labForAll(use: (lab: BridgeLab) => void): void {
  let lab: BridgeLab;
  before(async () => {
    lab = await BridgeLab.open();
    use(lab);
  });
  after(() => lab.close());
}

/** Which of the destinations answer over TCP. */
export async function reachable(guest: Namespace, destinations: readonly string[]): Promise<readonly string[]> {
  const probes = await Promise.all(destinations.map((destination) => guest.do('tcp', destination, port)));
  return destinations.filter((_, index) => probes[index] === 'open');
}

export const destinations = [...world4, ...world6, gateway4, gateway6, '198.51.100.1', '2001:db8:1::1'];
