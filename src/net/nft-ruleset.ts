/**
 * The packet filter as text for `nft -f`: pure functions from VMs to rules.
 *
 * Two tables per bridge, named alike. `bridge` sees frames on the taps and proves who sent them: what passes carries
 * the VM's own MAC, IPv4 and IPv6 addresses. `inet` sees packets on the bridge and decides by that proven source
 * address where they may go. It does so before routing and before anybody's DNAT, so that one decision covers the host
 * itself and everything behind it, and destinations are those the guest wrote.
 *
 * What is not provided for is dropped: a tap without rules is a tap without network. Lookups are hashes, so that their
 * cost does not depend on the number of VMs.
 */

import { type BridgePlan, linkLocalOf } from './bridge-plan.ts';
import { formatAddress, formatCidr, parseAddress } from './cidr.ts';
import { hasEgress, type VmRules } from './vm-rules.ts';

export interface RulesetSettings {
  readonly bridge: string;
  /** Name of both tables. */
  readonly table: string;
  readonly plan: BridgePlan;
  readonly limits: VmLimits;
}

/** How much of what all VMs share on the host one of them may use; 0: no limit. */
export interface VmLimits {
  /** Connections it began that the host keeps track of. */
  readonly connections: number;
  /** Packets to the resolver a second; twice as many at once. */
  readonly dnsPerSecond: number;
}

const longestWithoutSet = 16;

/** Replaces both tables by exactly the rules of `vms`. */
export function fullRuleset(settings: RulesetSettings, vms: readonly VmRules[]): string {
  return [
    removeTables(settings.table),
    bridgeTable(settings),
    inetTable(settings),
    ...vms.map((vm) => addVm(settings, vm)),
    '',
  ].join('\n');
}

/** Removes both tables, whether or not they are there. */
export function removeTables(table: string): string {
  return ['bridge', 'inet'].map((family) => `add table ${family} ${table}\ndelete table ${family} ${table}`).join('\n');
}

/** Adds a VM to the tables. */
export function addVm({ table, limits }: RulesetSettings, vm: VmRules): string {
  return [
    ...txLimit(table, vm),
    ...egressChain(table, limits, vm),
    ...elements(table, vm).map((element) => `add element ${element}`),
    '',
  ].join('\n');
}

/** Removes what {@link addVm} added. */
export function removeVm(table: string, vm: VmRules): string {
  const chain = `inet ${table} ${chainOf(vm)}`;
  return [
    ...elements(table, vm).map((element) => `delete element ${element}`),
    ...(hasEgress(vm) ? [`flush chain ${chain}`, `delete chain ${chain}`] : []),
    ...(vm.txLimit === null ? [] : [`delete limit bridge ${table} ${limitOf(vm)}`]),
    '',
  ].join('\n');
}

/** In the tables exactly while the VM's rules are: for `nft get element`. */
export function witnessElement(table: string, vm: VmRules): string {
  return `bridge ${table} owners { "${vm.tap}" . ${vm.mac} }`;
}

function chainOf(vm: VmRules): string {
  return `vm_${vm.tap}`;
}

function limitOf(vm: VmRules): string {
  return `tx_${vm.tap}`;
}

function txLimit(table: string, vm: VmRules): readonly string[] {
  if (vm.txLimit === null) return [];
  const { bytesPerSecond, burstBytes } = vm.txLimit;
  const bucket = `{ rate over ${bytesPerSecond} bytes/second burst ${burstBytes} bytes ; }`;
  return [`add limit bridge ${table} ${limitOf(vm)} ${bucket}`];
}

function egressChain(table: string, { connections, dnsPerSecond }: VmLimits, vm: VmRules): readonly string[] {
  if (!hasEgress(vm)) return [];
  const rule = `add rule inet ${table} ${chainOf(vm)}`;
  const dns = `meta l4proto { tcp, udp } th dport 53 limit rate over ${dnsPerSecond}/second burst ${2 * dnsPerSecond} packets`;
  return [
    `add chain inet ${table} ${chainOf(vm)}`,
    // The host's table of connections and its resolver are everybody's.
    ...(connections === 0 ? [] : [`${rule} ct state new ct count over ${connections} drop`]),
    ...(dnsPerSecond === 0 ? [] : [`${rule} ${dns} drop`]),
    `${rule} jump resolver`,
    ...destinations('ip', vm.allow4).map((match) => `${rule} ${match} accept`),
    ...destinations('ip6', vm.allow6).map((match) => `${rule} ${match} accept`),
  ];
}

/** With each change `nft` asks the kernel for every set there is: a short list is cheaper as one rule per network. */
function destinations(protocol: 'ip' | 'ip6', cidrs: readonly string[]): readonly string[] {
  if (cidrs.length > longestWithoutSet) return [`${protocol} daddr { ${cidrs.join(', ')} }`];
  return cidrs.map((cidr) => `${protocol} daddr ${cidr}`);
}

function elements(table: string, vm: VmRules): readonly string[] {
  const port = `"${vm.tap}" . ${vm.mac}`;
  const identity = [
    witnessElement(table, vm),
    ...vm.senders4.flatMap((address) => [
      `bridge ${table} arp_senders { ${port} . ${vm.mac} . ${address} }`,
      `bridge ${table} senders4 { ${port} . ${address} }`,
    ]),
    ...vm.senders6.flatMap((address) => [
      `bridge ${table} senders6 { ${port} . ${address} }`,
      `bridge ${table} solicitors6 { ${port} . ${address} }`,
    ]),
  ];
  if (vm.ipv6 !== null) identity.push(`bridge ${table} solicitors6 { ${port} . ${linkLocalOf(vm.mac)} }`);
  if (vm.txLimit !== null) identity.push(`bridge ${table} tx_limits { "${vm.tap}" : "${limitOf(vm)}" }`);
  if (!hasEgress(vm)) return identity;
  const egress: string[] = [];
  if (vm.ipv4 !== null) egress.push(`inet ${table} egress4 { ${vm.ipv4} : jump ${chainOf(vm)} }`);
  if (vm.ipv6 !== null) egress.push(`inet ${table} egress6 { ${vm.ipv6} : jump ${chainOf(vm)} }`);
  return [...identity, ...egress];
}

/** Frames on the taps. */
function bridgeTable({ table, plan }: RulesetSettings): string {
  const taps = `"${plan.tapPrefix}*"`;
  return `table bridge ${table} {
  set owners { typeof oifname . ether daddr; }
  set arp_senders { typeof iifname . ether saddr . arp saddr ether . arp saddr ip; }
  set senders4 { typeof iifname . ether saddr . ip saddr; }
  set senders6 { typeof iifname . ether saddr . ip6 saddr; }
  set solicitors6 { typeof iifname . ether saddr . ip6 saddr; }
  map tx_limits { type ifname : limit; }

  chain from_guest {
    # What is over a VM's limit is gone before anything else is made of it.
    limit name iifname map @tx_limits drop
    # Guests may ask for the gateway and nobody else. The host never asks: it has permanent entries for its VMs.
    ether type arp arp htype 1 arp ptype ip arp operation request arp daddr ip ${plan.gateway4} iifname . ether saddr . arp saddr ether . arp saddr ip @arp_senders accept
    # Options: source routes would have the host send the packet on to where the allow list was not asked about.
    ether type ip ip hdrlength 5 iifname . ether saddr . ip saddr @senders4 accept
${plan.gateway6 === null ? '' : guestFrames6(plan.gateway6)}
    drop
  }

  # Before br_netfilter, where it is loaded, hands bridged packets to the inet hooks.
  chain prerouting {
    type filter hook prerouting priority -300; policy accept;
    iifname ${taps} goto from_guest
  }

  # Frames to the bridge group address come here without having been through prerouting.
  chain input {
    type filter hook input priority -300; policy accept;
    iifname ${taps} ether daddr & ff:ff:ff:ff:ff:f0 == 01:80:c2:00:00:00 drop
  }

  # Guests talk to the host and through it; never on the wire to each other.
  chain forward {
    type filter hook forward priority -300; policy accept;
    iifname ${taps} drop
    oifname ${taps} drop
  }

  # Frames reach the VM they are for: what the bridge floods, it floods to nobody else.
  chain postrouting {
    type filter hook postrouting priority -300; policy accept;
    oifname != ${taps} accept
    oifname . ether daddr @owners accept
    drop
  }
}`;
}

function guestFrames6(gateway6: string): string {
  const target = parseAddress(gateway6).address.toString(16).padStart(32, '0');
  return `    ether type ip6 exthdr rt exists drop
    ether type ip6 icmpv6 type nd-neighbor-solicit ip6 hoplimit 255 ip6 daddr { ${gateway6}, ${solicitedNode(gateway6)} } @th,64,128 0x${target} iifname . ether saddr . ip6 saddr @solicitors6 accept
    ether type ip6 icmpv6 type { 130-137, 143 } drop
    ether type ip6 iifname . ether saddr . ip6 saddr @senders6 accept`;
}

/** Packets on the bridge. */
function inetTable({ bridge, table, plan }: RulesetSettings): string {
  const { gateway4, gateway6, network6 } = plan;
  const net4 = formatCidr(plan.network4);
  const net6 = network6 && formatCidr(network6);
  const only6 = (line: string): string => (gateway6 === null ? '' : `\n    ${line}`);
  const dns = (verdict: string, condition = ''): string =>
    plan.nameservers.length === 0
      ? ''
      : `\n    ${condition}ip daddr ${gateway4} meta l4proto { tcp, udp } th dport 53 ${verdict}${only6(`${condition}ip6 daddr ${gateway6} meta l4proto { tcp, udp } th dport 53 ${verdict}`)}`;
  return `table inet ${table} {
  # The VMs that may start connections; all others may only answer.
  map egress4 { typeof ip saddr : verdict; }
  map egress6 { typeof ip6 saddr : verdict; }

  # For every VM that may start connections, whether or not the gateway is among its destinations.
  chain resolver {${dns('accept')}
  }

  chain from_guest {${only6(`icmpv6 type nd-neighbor-solicit ip6 hoplimit 255 ip6 daddr { ${gateway6}, ${gateway6 && solicitedNode(gateway6)} } accept`)}
    icmpv6 type { 133-137 } drop
    ip daddr ${net4} ip daddr != ${gateway4} drop${only6(`ip6 daddr ${net6} ip6 daddr != ${gateway6} drop`)}
    ip daddr 127.0.0.0/8 drop
    # Answers only: what a guest itself began is judged packet by packet, whatever connections an address had before.
    ct direction reply ct state established,related accept
    ip saddr vmap @egress4
    ip6 saddr vmap @egress6
    drop
  }

  chain prerouting {
    type filter hook prerouting priority mangle; policy accept;
    iifname "${bridge}" goto from_guest
    iifname "${plan.tapPrefix}*" drop
    # The resolver is the guests' own.${dns('drop', 'iifname != "lo" ')}
  }

  chain forward {
    type filter hook forward priority filter; policy accept;
    oifname "${bridge}" ct state established,related accept
    oifname { "${bridge}", "${plan.tapPrefix}*" } drop
  }

  chain postrouting {
    type nat hook postrouting priority srcnat; policy accept;
    ip saddr ${net4} ip daddr != ${net4} oifname != { "lo", "${bridge}" } masquerade${only6(`ip6 saddr ${net6} ip6 daddr != ${net6} oifname != { "lo", "${bridge}" } masquerade`)}
  }
}`;
}

/** The multicast address that neighbour solicitations for an address go to (RFC 4291). */
function solicitedNode(ipv6: string): string {
  return formatAddress(6, (0xff02n << 112n) | 0x1ff000000n | (parseAddress(ipv6).address & 0xffffffn));
}
