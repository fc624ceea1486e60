/** The step of a guest that boots, and what every guest is told of itself. */

import { randomBytes } from 'node:crypto';
import { BerthError } from '../../common/errors.ts';
import type { GuestIdentity } from '../../guest/guest.ts';
import type { OperationContext, VmDependencies } from '../context.ts';
import { readLogTail } from '../log-tail.ts';
import type { Vm } from '../model.ts';
import type { Step } from '../run-steps.ts';

/** Waits for the guest's first answer and makes it the machine it is to be. */
export const guestStep: Step<OperationContext> = {
  name: 'guest',
  needed: ({ vm }) => vm.guestChannel === 'required',
  async run({ deps, live, vm }) {
    const running = live.get(vm.id);
    if (!running) throw new BerthError('boot_failed', { reason: 'its process ended' });
    try {
      await running.guest.ready(deps.settings.bootTimeoutMs, running.ended);
      await running.guest.configure(firstIdentityOf(deps, vm));
    } catch (error) {
      // The console goes with the VM's directory, so its last lines are kept for the operator.
      const console = await readLogTail(deps.engine.consoleLog(deps.layout.run(vm.id)), 30);
      deps.log.warn({ err: error, vm: vm.id, console: console.lines }, 'a guest did not come up');
      const reason = running.ended.aborted
        ? 'its process ended before the guest answered'
        : 'the guest did not answer in time';
      throw new BerthError('boot_failed', { reason }, error);
    }
  },
};

/** What a VM's guest is told of itself. The way out is through the first interface. */
export function identityOf(deps: VmDependencies, vm: Vm): GuestIdentity {
  const { plan } = deps.network;
  const [first, ...further] = vm.nics.map(({ addresses: { mac, ipv4, ipv6 }, families, nameservers }, index) => {
    const [has4, has6] = [families !== 'ipv6', families !== 'ipv4' && ipv6 !== null && plan.prefix6 !== null];
    return {
      mac,
      ipv4: has4 ? `${ipv4}/${plan.prefix4}` : null,
      gateway4: has4 && index === 0 ? plan.gateway4 : null,
      ipv6: has6 ? `${ipv6}/${plan.prefix6}` : null,
      gateway6: has6 && index === 0 ? plan.gateway6 : null,
      nameservers: nameservers ?? plan.nameservers,
    };
  });
  return {
    hostname: hostnameOf(vm.name),
    unixTimeMs: Date.now(),
    entropy: randomBytes(64),
    network: first ?? null,
    furtherNetworks: further,
  };
}

/** What a guest that has booted is told: at the VM's first start whatever the image has of a machine's own is made anew. */
function firstIdentityOf(deps: VmDependencies, vm: Vm): GuestIdentity {
  const identity = { ...identityOf(deps, vm), renew: vm.startedAt === null };
  if (!vm.hidden || identity.network === null) return identity;
  // It becomes a template: what has no addresses has none to be taken away from each of its clones.
  const network = { ...identity.network, ipv4: null, gateway4: null, ipv6: null, gateway6: null };
  return { ...identity, network };
}

/** A VM's name as the name of a machine: letters, digits, dots and dashes, at most 63 of them. */
function hostnameOf(name: string): string {
  const host = name.replaceAll(/[^A-Za-z0-9.-]+/g, '-').slice(0, 63);
  return /^[.-]*$/.test(host) ? 'vm' : host;
}
