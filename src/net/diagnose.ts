import { access, constants } from 'node:fs/promises';
import { CommandError } from '../common/command.ts';
import { type Cidr, containsAddress, formatCidr, readCidr } from './cidr.ts';
import { readForwarding } from './forwarding.ts';
import { runHostTool } from './host-tool.ts';
import { ipJson } from './ip-link.ts';
import type { Network } from './network.ts';
import type { RulesetSettings } from './nft-ruleset.ts';
import { fullRuleset } from './nft-ruleset.ts';

type Finding = Awaited<ReturnType<Network['diagnose']>>[number];

interface Route {
  readonly dst: string;
  readonly dev?: string;
}

/** What the host offers and lacks for a bridge network. Changes nothing. */
export async function diagnoseBridge(settings: RulesetSettings): Promise<readonly Finding[]> {
  const { plan } = settings;
  return [
    checkRoot(),
    await checkTool('ip', ['-V'], 'iproute2'),
    await checkTool('nft', ['--version'], 'nftables'),
    ...(plan.nameservers.length > 0 ? [await checkTool('dnsmasq', ['--version'], 'dnsmasq-base')] : []),
    await checkTun(),
    await checkNft(settings),
    await checkForwarding(plan.gateway6 !== null),
    await checkForwardPolicy(settings.bridge),
    await checkRoutes(settings.bridge, [plan.network4, ...(plan.network6 === null ? [] : [plan.network6])]),
  ];
}

function checkRoot(): Finding {
  const uid = process.getuid?.();
  return finding('root', uid === 0, `uid ${uid}`, 'Run as root, or use user-mode networking.');
}

async function checkTool(name: string, args: readonly string[], debianPackage: string): Promise<Finding> {
  const advice = `apt-get install ${debianPackage}`;
  try {
    const { stdout, stderr } = await runHostTool(name, args);
    return finding(name, true, firstLine(stdout || stderr), advice);
  } catch (error) {
    return finding(name, false, reason(error), advice);
  }
}

async function checkTun(): Promise<Finding> {
  const path = '/dev/net/tun';
  const advice = 'modprobe tun; in a container, pass the device in.';
  try {
    await access(path, constants.R_OK | constants.W_OK);
    return finding('tap devices', true, path, advice);
  } catch (error) {
    return finding('tap devices', false, reason(error), advice);
  }
}

/** Has the kernel judge the very rules that would be used, without applying them. */
async function checkNft(settings: RulesetSettings): Promise<Finding> {
  const advice = 'Use a kernel with nf_tables for the bridge and inet families, conntrack and NAT.';
  try {
    await runHostTool('nft', ['-c', '-f', '-'], { input: fullRuleset(settings, []) });
    return finding('nftables', true, 'the kernel accepts the rules', advice);
  } catch (error) {
    return finding('nftables', false, reason(error), advice);
  }
}

async function checkForwarding(ipv6: boolean): Promise<Finding> {
  const forwarding = await readForwarding();
  const ok = forwarding.ipv4 && (!ipv6 || forwarding.ipv6 === true);
  return finding(
    'forwarding',
    ok,
    `IPv4 ${onOff(forwarding.ipv4)}, IPv6 ${onOff(forwarding.ipv6)}`,
    'The daemon turns it on at start; where /proc/sys is read-only, set net.ipv4.ip_forward=1 and net.ipv6.conf.all.forwarding=1 from outside.',
  );
}

/** Docker drops what it does not know in `ip filter FORWARD`; an accept in our table cannot overrule that. */
async function checkForwardPolicy(bridge: string): Promise<Finding> {
  const check = 'other firewalls';
  const advice = `iptables -I DOCKER-USER -i ${bridge} -j ACCEPT && iptables -I DOCKER-USER -o ${bridge} -j ACCEPT`;
  try {
    const { stdout } = await runHostTool('nft', ['list', 'table', 'ip', 'filter']);
    const drops = /chain FORWARD \{\s*type filter hook forward [^\n]*policy drop/.test(stdout);
    const excepted = stdout.includes(`"${bridge}"`);
    if (drops && !excepted) return finding(check, false, 'table ip filter drops forwarded packets by default', advice);
    return finding(check, true, drops ? `table ip filter has rules for ${bridge}` : 'none drops by default', advice);
  } catch (error) {
    const absent = error instanceof CommandError && error.stderr.includes('No such file or directory');
    return finding(check, absent, absent ? 'none in table ip filter' : reason(error), advice);
  }
}

async function checkRoutes(bridge: string, networks: readonly Cidr[]): Promise<Finding> {
  const check = 'addresses';
  const advice = 'Choose another network for the bridge.';
  try {
    const routes = [...(await ipJson<Route>(['-4', 'route'])), ...(await ipJson<Route>(['-6', 'route']))];
    const clash = routes.find(
      ({ dst, dev }) => dev !== bridge && dst !== 'default' && overlaps(readCidr(dst), networks),
    );
    const wanted = networks.map(formatCidr).join(', ');
    if (clash) return finding(check, false, `${wanted} overlaps the route to ${clash.dst} by ${clash.dev}`, advice);
    return finding(check, true, `${wanted} free`, advice);
  } catch (error) {
    return finding(check, false, reason(error), advice);
  }
}

function overlaps(route: Cidr, networks: readonly Cidr[]): boolean {
  return networks.some(
    (network) =>
      containsAddress(network, route.family, route.address) || containsAddress(route, network.family, network.address),
  );
}

function finding(check: string, ok: boolean, detail: string, advice: string): Finding {
  return { check, ok, detail, advice };
}

function onOff(value: boolean | null): string {
  if (value === null) return 'absent';
  return value ? 'on' : 'off';
}

function firstLine(text: string): string {
  return text.split('\n', 1)[0] ?? '';
}

/** For the operator's terminal, who may see the host's own words. */
function reason(error: unknown): string {
  return firstLine(error instanceof Error ? error.message : String(error));
}
