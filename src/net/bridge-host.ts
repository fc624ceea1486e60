import { createHash } from 'node:crypto';
import { type BridgePlan, bridgeMacPrefix, linkLocalOf } from './bridge-plan.ts';
import type { WaitingTool } from './host-tool.ts';
import {
  ipJson,
  type Link,
  listLinkNames,
  permanentNeighbours,
  runIpBatch,
  runIpRemovals,
  showLink,
} from './ip-link.ts';
import type { RateLimit } from './network.ts';
import { limitTaps } from './rate-limit.ts';
import type { VmRules } from './vm-rules.ts';

/** The bridge and its taps, as interfaces of the host. Which packets pass is not decided here. */
export class BridgeHost {
  readonly #bridge: string;
  readonly #plan: BridgePlan;
  readonly #ip: WaitingTool;
  readonly #mac: string;

  /** @param ip `ip -batch -`, for what VMs wait for */
  constructor(bridge: string, plan: BridgePlan, ip: WaitingTool) {
    this.#ip = ip;
    this.#bridge = bridge;
    this.#plan = plan;
    // Made from the name: the mark by which a bridge is known as ours, and the same gateway MAC after every restart.
    const digest = createHash('sha256').update(`berth bridge ${bridge}`).digest('hex');
    this.#mac = `${bridgeMacPrefix}${(digest.slice(0, 8).match(/../g) ?? []).join(':')}`;
  }

  /** Makes the bridge what it should be. Throws when there is an interface of that name which is not ours. */
  async ensureBridge(): Promise<void> {
    const bridge = this.#bridge;
    const link = await this.#showBridge();
    const wanted = this.#addresses();
    const present = (link?.addr_info ?? [])
      .filter(({ scope }) => scope === 'global')
      .map(({ local, prefixlen }) => `${local}/${prefixlen}`);
    await runIpBatch([
      ...(link === null ? [`link add ${bridge} address ${this.#mac} type bridge`] : []),
      // No spanning tree to wait for. Entries stay for a year: the packet filter binds each MAC to its tap, so that they
      // cannot become wrong, and packets to a guest that was silent for long need not be flooded.
      `link set ${bridge} type bridge stp_state 0 forward_delay 0 mcast_snooping 0 ageing_time ${365 * 86_400 * 100}`,
      ...present.filter((address) => !wanted.includes(address)).map((address) => `addr del ${address} dev ${bridge}`),
      // Without duplicate address detection, which would wait for a first port.
      ...wanted
        .filter((address) => !present.includes(address))
        .map((address) => `addr add ${address} dev ${bridge}${address.includes(':') ? ' nodad' : ''}`),
      `link set ${bridge} up`,
    ]);
  }

  async removeBridge(): Promise<void> {
    if ((await this.#showBridge()) !== null) await runIpRemovals([`link del dev ${this.#bridge}`]);
  }

  async listTaps(): Promise<readonly string[]> {
    return (await listLinkNames()).filter((name) => this.#plan.isTap(name));
  }

  /** Plugs in a VM's tap, making it unless it exists. On failure, what was made is gone again. */
  async plug(vm: VmRules, uid: number | null): Promise<void> {
    const { tap } = vm;
    // `ip` takes what is beyond 32 bits for some other user.
    if (uid !== null && !(Number.isInteger(uid) && uid >= 0 && uid < 2 ** 32 - 1))
      throw new Error(`no such uid: ${uid}`);
    const made = !(await listLinkNames()).includes(tap);
    try {
      const lines = [
        ...(made ? [`tuntap add dev ${tap} mode tap${uid === null ? '' : ` user ${uid}`}`] : []),
        // The host itself has no address on a tap, not even a link-local one.
        `link set dev ${tap} addrgenmode none master ${this.#bridge}`,
        `link set dev ${tap} type bridge_slave isolated on hairpin off`,
        `link set dev ${tap} up`,
        ...this.#neighbours(vm).map((entry) => `neigh replace ${entry}`),
      ];
      await this.#ip.run(`${lines.join('\n')}\n`);
      await limitTaps(rxLimits([vm]));
    } catch (error) {
      await runIpRemovals([...(made ? await this.#tapRemoval(tap) : []), ...this.#neighbourRemovals(vm)]);
      throw error;
    }
  }

  async unplug(vm: VmRules): Promise<void> {
    await runIpRemovals([...(await this.#tapRemoval(vm.tap)), ...this.#neighbourRemovals(vm)]);
  }

  /** Removes a tap alone: its addresses are not the bridge's. */
  async removeTap(tap: string): Promise<void> {
    await runIpRemovals(await this.#tapRemoval(tap));
  }

  async isPlugged(tap: string): Promise<boolean> {
    const link = await showLink(tap);
    return link !== null && this.#isPort(link);
  }

  #isPort({ master, flags, linkinfo }: Link): boolean {
    return master === this.#bridge && flags.includes('UP') && linkinfo?.info_slave_data?.isolated === true;
  }

  #isInOrder(bridge: Link | undefined): boolean {
    const present = (bridge?.addr_info ?? []).map(({ local, prefixlen }) => `${local}/${prefixlen}`);
    return bridge?.flags.includes('UP') === true && this.#addresses().every((address) => present.includes(address));
  }

  /**
   * Looks at bridge and taps, and puts back in order what can be. `lost` are the taps that are gone: only the process that
   * had one could have brought it back.
   */
  async mend(
    vms: readonly VmRules[],
  ): Promise<{ readonly mended: readonly string[]; readonly lost: readonly string[] }> {
    const links = new Map((await ipJson<Link>(['-d', 'addr', 'show'])).map((link) => [link.ifname, link]));
    const mended: string[] = [];
    if (!this.#isInOrder(links.get(this.#bridge))) {
      await this.ensureBridge();
      await this.syncNeighbours(vms);
      mended.push(this.#bridge);
    }
    const lost: string[] = [];
    for (const vm of vms) {
      const link = links.get(vm.tap);
      if (link === undefined) lost.push(vm.tap);
      else if (!this.#isPort(link)) {
        await this.plug(vm, null);
        mended.push(vm.tap);
      }
    }
    return { mended, lost };
  }

  /** Gives the taps of `vms` that are there their limits. */
  async syncLimits(vms: readonly VmRules[]): Promise<void> {
    const present = new Set(await this.listTaps());
    await limitTaps(rxLimits(vms.filter(({ tap }) => present.has(tap))));
  }

  /**
   * Takes those of `taps` that are there from the bridge. They are left to the processes that hold them: QEMU reads
   * without pause from a tap that was removed.
   */
  async unplugTaps(taps: ReadonlySet<string>): Promise<void> {
    const present = (await this.listTaps()).filter((tap) => taps.has(tap));
    await runIpBatch(present.map((tap) => `link set dev ${tap} nomaster down`));
  }

  /** Removes the taps of ours that are not among `owned`; returns their names. */
  async removeOtherTaps(owned: ReadonlySet<string>): Promise<readonly string[]> {
    const strays = (await this.listTaps()).filter((tap) => !owned.has(tap));
    await runIpRemovals(strays.map((tap) => `link del dev ${tap}`));
    return strays;
  }

  /**
   * Makes the bridge's permanent neighbours those of `vms`. With them the host never asks the guests who has an
   * address, so that no guest can answer for another.
   */
  async syncNeighbours(vms: readonly VmRules[]): Promise<void> {
    const present = await permanentNeighbours(this.#bridge);
    const wanted = new Map(vms.flatMap((vm) => addressesOf(vm).map((address) => [address, vm.mac] as const)));
    const dev = `dev ${this.#bridge}`;
    await runIpRemovals(
      [...present.keys()].filter((address) => !wanted.has(address)).map((a) => `neigh del ${a} ${dev}`),
    );
    await runIpBatch(
      [...wanted]
        .filter(([address, mac]) => present.get(address) !== mac)
        .map(([address, mac]) => `neigh replace ${address} lladdr ${mac} ${dev} nud permanent`),
    );
  }

  /** Looks first: the name may be another interface's alternative name, and `ip` would remove that. */
  async #tapRemoval(tap: string): Promise<readonly string[]> {
    return (await listLinkNames()).includes(tap) ? [`link del dev ${tap}`] : [];
  }

  #neighbours(vm: VmRules): readonly string[] {
    return addressesOf(vm).map((address) => `${address} lladdr ${vm.mac} dev ${this.#bridge} nud permanent`);
  }

  #neighbourRemovals(vm: VmRules): readonly string[] {
    return addressesOf(vm).map((address) => `neigh del ${address} dev ${this.#bridge}`);
  }

  #addresses(): readonly string[] {
    const { gateway4, prefix4, gateway6, prefix6 } = this.#plan;
    return [`${gateway4}/${prefix4}`, ...(gateway6 === null ? [] : [`${gateway6}/${prefix6}`])];
  }

  async #showBridge(): Promise<Link | null> {
    const link = await showLink(this.#bridge);
    if (link !== null && (link.linkinfo?.info_kind !== 'bridge' || link.address !== this.#mac)) {
      throw new Error(`there is an interface ${this.#bridge} that is not Berth's; choose another bridge name`);
    }
    return link;
  }
}

function addressesOf(vm: VmRules): readonly string[] {
  return [...(vm.ipv4 === null ? [] : [vm.ipv4]), ...(vm.ipv6 === null ? [] : [vm.ipv6, linkLocalOf(vm.mac)])];
}

function rxLimits(vms: readonly VmRules[]): ReadonlyMap<string, RateLimit> {
  return new Map(vms.flatMap(({ tap, rxLimit }) => (rxLimit === null ? [] : [[tap, rxLimit]])));
}
