import { join } from 'node:path';
import { Serial } from '../common/concurrency.ts';
import { BerthError } from '../common/errors.ts';
import type { Log } from '../common/log.ts';
import type { EngineNic } from '../engine/engine.ts';
import { BridgeHost } from './bridge-host.ts';
import { type BridgePlan, createBridgePlan } from './bridge-plan.ts';
import { canonicalAddress } from './cidr.ts';
import { diagnoseBridge } from './diagnose.ts';
import { enableForwarding, restoreForwarding } from './forwarding.ts';
import { WaitingTool } from './host-tool.ts';
import type { Network, Traffic, VmNetwork } from './network.ts';
import { applyNft, hasNftElement, listTableNames } from './nft.ts';
import { isSameListing, listRuleset, listTables, type NftListing } from './nft-listing.ts';
import {
  addVm,
  fullRuleset,
  type RulesetSettings,
  removeTables,
  removeVm,
  type VmLimits,
  witnessElement,
} from './nft-ruleset.ts';
import { Resolver } from './resolver.ts';
import { TapWatch } from './tap-watch.ts';
import { readTraffic } from './traffic.ts';
import { hasEgress, readVmRules, type VmRules } from './vm-rules.ts';

const tablePrefix = 'berth_';

export interface BridgeNetworkOptions {
  /** Interface name; its taps are called after it, so at most 12 characters for a /24, 10 for a /16. */
  readonly bridge: string;
  /** The gateway's address with the network's prefix, e.g. `172.16.0.1/24`. */
  readonly address4: string;
  /** Likewise for IPv6; null: guests get none. */
  readonly address6: string | null;
  /** The resolver at the gateway and whom it asks (IP addresses; null: the host's resolv.conf); false: there is none. */
  readonly resolver: { readonly upstream: readonly string[] | null } | false;
  /** What one VM may use of what all share; omitted: as much as there is. */
  readonly limits?: VmLimits;
  /** Name of the nftables tables, default `berth_<bridge>`. */
  readonly table?: string;
  /** This daemon's own directory for run-time state. */
  readonly stateDir: string;
  readonly log: Log;
}

/**
 * VM networking by a bridge, taps and nftables. Needs root and one bridge name per daemon.
 *
 * @throws BerthError `invalid_cidr` or `invalid_argument` when the options do not make a network
 */
export function createBridgeNetwork(options: BridgeNetworkOptions): Network {
  return new BridgeNetwork(options);
}

class BridgeNetwork implements Network {
  readonly plan: BridgePlan;
  readonly #settings: RulesetSettings;
  readonly #nft = new WaitingTool('nft', ['-f', '-']);
  readonly #ip = new WaitingTool('ip', ['-batch', '-']);
  readonly #host: BridgeHost;
  readonly #resolver: Resolver | null;
  readonly #tapWatch: TapWatch;
  readonly #log: Log;
  readonly #sysctlMemo: string;
  readonly #serial = new Serial<'host'>();
  /** The VMs whose rules are in the tables, by tap; null before the first reconcile. */
  #vms: ReadonlyMap<string, VmRules> | null = null;
  /** How the tables are listed while they hold the rules of `vms` and nothing else. */
  #listed: { readonly vms: ReadonlyMap<string, VmRules> | null; readonly listing: NftListing } | null = null;

  constructor(options: BridgeNetworkOptions) {
    const { bridge, address4, address6, resolver, stateDir, log } = options;
    const table = options.table ?? `${tablePrefix}${bridge}`;
    if (!/^[a-zA-Z][a-zA-Z0-9_]{0,63}$/.test(table)) {
      throw new BerthError('invalid_argument', { reason: 'table must be letters, digits and underscores' });
    }
    this.plan = createBridgePlan({ bridge, address4, address6, resolver: resolver !== false });
    this.#settings = { bridge, table, plan: this.plan, limits: options.limits ?? { connections: 0, dnsPerSecond: 0 } };
    this.#host = new BridgeHost(bridge, this.plan, this.#ip);
    this.#log = log;
    this.#sysctlMemo = join(stateDir, 'sysctl.json');
    this.#tapWatch = new TapWatch(log);
    this.#resolver =
      resolver === false
        ? null
        : new Resolver({
            listen: this.plan.nameservers,
            upstream: resolver.upstream?.map(canonicalAddress) ?? null,
            stateDir,
            log,
          });
  }

  reconcile(vms: readonly VmNetwork[]): Promise<void> {
    return this.#change('reconcile', async () => {
      const rules = vms.filter((vm) => this.plan.holds(vm)).map((vm) => readVmRules(this.plan, vm));
      const foreign = vms.filter((vm) => !this.plan.holds(vm));
      for (const vm of foreign) {
        this.#log.warn(
          { vm: vm.vmId, ipv4: vm.ipv4, ipv6: vm.ipv6 },
          'a VM has addresses of another network and is cut off; stop and start it to give it others',
        );
      }
      // Rules come first: nothing that follows opens a way they do not guard.
      await applyNft(fullRuleset(this.#settings, rules));
      this.#vms = new Map(rules.map((vm) => [vm.tap, vm]));
      await this.#host.ensureBridge();
      await enableForwarding(this.plan.gateway6 !== null, this.#sysctlMemo);
      await this.#host.unplugTaps(new Set(foreign.map(({ tap }) => tap)));
      const strays = await this.#host.removeOtherTaps(new Set(vms.map(({ tap }) => tap)));
      if (strays.length > 0) this.#log.info({ taps: strays }, 'removed taps that belong to no VM');
      await this.#host.syncNeighbours(rules);
      await this.#host.syncLimits(rules);
      await this.#resolver?.start();
    });
  }

  attach(vm: VmNetwork): Promise<void> {
    return this.#change('attach', async () => {
      const rules = readVmRules(this.plan, vm);
      const before = this.#known().get(rules.tap);
      await this.#replaceRules(before, rules);
      try {
        await this.#host.plug(rules, vm.uid);
      } catch (error) {
        // A VM that was attached before keeps running behind its rules.
        if (before === undefined) await this.#replaceRules(rules, undefined);
        throw error;
      }
    });
  }

  detach(vm: VmNetwork): Promise<void> {
    return this.#change('detach', async () => {
      const before = this.#known().get(vm.tap);
      // The lease has a new owner, whose tap this is now.
      if (before !== undefined && before.vmId !== vm.vmId) return;
      if (this.plan.holds(vm)) await this.#host.unplug(readVmRules(this.plan, vm));
      else if (this.plan.isTap(vm.tap)) await this.#host.removeTap(vm.tap);
      if (before !== undefined) await this.#replaceRules(before, undefined);
    });
  }

  attached(vm: VmNetwork): Promise<boolean> {
    return this.#change('look at', async () => {
      if (!this.plan.holds(vm)) return (await this.#host.listTaps()).includes(vm.tap);
      const rules = readVmRules(this.plan, vm);
      return (
        (await this.#host.isPlugged(rules.tap)) && (await hasNftElement(witnessElement(this.#settings.table, rules)))
      );
    });
  }

  verify(vms: readonly VmNetwork[]): Promise<readonly string[]> {
    return this.#change('verify', async () => {
      const rules = [...this.#known().values()];
      if (!(await this.#areRulesInPlace(rules))) {
        this.#log.warn({ table: this.#settings.table }, 'somebody changed the rules of the VMs; putting them back');
        await applyNft(fullRuleset(this.#settings, rules));
      }
      await enableForwarding(this.plan.gateway6 !== null, this.#sysctlMemo);
      const { mended, lost } = await this.#host.mend(rules);
      if (mended.length > 0) this.#log.warn({ interfaces: mended }, 'put interfaces of VMs back in order');
      if (lost.length > 0) this.#log.warn({ taps: lost }, 'taps of VMs are gone');
      return vms.filter(({ tap }) => lost.includes(tap)).map(({ vmId }) => vmId);
    });
  }

  nic(vm: VmNetwork): EngineNic {
    return { name: 'net0', backend: { kind: 'tap', tap: vm.tap }, mac: vm.mac };
  }

  traffic(taps: readonly string[]): Promise<ReadonlyMap<string, Traffic>> {
    return readTraffic(taps);
  }

  /** Whatever goes out through a tap is for its VM, since the packet filter drops the rest: nothing has to be read. */
  onNextPacket(taps: readonly string[], callback: () => void): Promise<() => void> {
    return this.#tapWatch.onNextPacket(taps, callback);
  }

  diagnose(): ReturnType<Network['diagnose']> {
    return diagnoseBridge(this.#settings);
  }

  /** VMs that run on keep their resolver; without any it ends too. */
  async close(): Promise<void> {
    this.#nft.close();
    this.#ip.close();
    await this.#tapWatch.close();
    await this.#serial.run('host', async () => {
      // Before reconcile nothing is known of the VMs: whatever runs may be theirs.
      const idle = this.#vms !== null && ![...this.#vms.values()].some(hasEgress);
      await (idle ? this.#resolver?.stop() : this.#resolver?.release());
    });
  }

  teardown(): Promise<void> {
    return this.#change('tear down', async () => {
      this.#nft.close();
      this.#ip.close();
      await this.#tapWatch.close();
      await this.#resolver?.stop();
      await this.#host.removeOtherTaps(new Set());
      await this.#host.removeBridge();
      await applyNft(removeTables(this.#settings.table));
      await restoreForwarding(this.#sysctlMemo, await hasOtherBerthTables(this.#settings.table));
      this.#vms = null;
    });
  }

  /** Swaps one VM's rules in one transaction. */
  async #replaceRules(before: VmRules | undefined, after: VmRules | undefined): Promise<void> {
    const { table } = this.#settings;
    const vms = new Map(this.#known());
    if (before !== undefined) vms.delete(before.tap);
    if (after !== undefined) vms.set(after.tap, after);
    try {
      await this.#nft.run(
        [before && removeVm(table, before), after && addVm(this.#settings, after)].filter(Boolean).join(''),
      );
    } catch (error) {
      // Somebody else changed our tables, by `nft flush ruleset` for one: then all rules are due again.
      this.#log.warn({ err: error }, 'the rules are not as they were left; replacing all of them');
      await applyNft(fullRuleset(this.#settings, [...vms.values()]));
    }
    this.#vms = vms;
  }

  async #areRulesInPlace(rules: readonly VmRules[]): Promise<boolean> {
    const { table } = this.#settings;
    if (this.#listed?.vms !== this.#vms) {
      const listing = await listRuleset(table, fullRuleset(this.#settings, rules));
      this.#listed = { vms: this.#vms, listing };
    }
    return isSameListing(await listTables(table), this.#listed.listing);
  }

  #known(): ReadonlyMap<string, VmRules> {
    if (this.#vms === null) throw new Error('the network is used before reconcile');
    return this.#vms;
  }

  /** One at a time, and with what went wrong on the host kept from the client. */
  #change<T>(what: string, task: () => Promise<T>): Promise<T> {
    return this.#serial.run('host', async () => {
      try {
        return await task();
      } catch (error) {
        if (error instanceof BerthError) throw error;
        this.#log.error({ err: error, bridge: this.#settings.bridge }, `network: ${what} failed`);
        throw new BerthError('network_failed', {}, error);
      }
    });
  }
}

/** Whether networks of other daemons are on this host, which route packets as well. */
async function hasOtherBerthTables(own: string): Promise<boolean> {
  return (await listTableNames()).some((name) => name.startsWith(tablePrefix) && name !== own);
}
