import type { Vm, VmAddresses } from '../model.ts';

/** A record of a VM from an image with one network interface, number `n` of several that share no lease. */
export function sampleVm(n: number, change: Partial<Omit<Vm, 'nics'>> = {}): Vm {
  const addresses = change.addresses ?? sampleAddresses(n);
  return {
    id: `vm-${n}`,
    name: `name ${n}`,
    tenant: '',
    state: 'stopped',
    engine: 'qemu',
    cpus: 1,
    memoryMiB: 256,
    diskMiB: 512,
    imageId: 'img-00000000-0000-4000-8000-000000000000',
    snapshotId: null,
    uid: 300_000 + n,
    boot: null,
    kernelArgs: '',
    guestChannel: 'required',
    rootDisk: { name: 'root', readOnly: false, asset: null },
    dataDisks: [],
    egress: { outbound: false, allow: [] },
    startMode: 'boot',
    createdAt: '2026-01-01T00:00:00.000Z',
    startedAt: null,
    stoppedAt: null,
    changedAt: '2026-01-01T00:00:00.000Z',
    reason: null,
    consoleFile: null,
    labels: {},
    apiRecord: null,
    parkAfterSeconds: null,
    parked: false,
    hidden: false,
    renewal: null,
    ...change,
    addresses,
    nics: [{ name: 'eth0', addresses, families: 'dual', nameservers: null, rxLimit: null, txLimit: null }],
  };
}

/** Leases in 172.16.0.0/16 and fd00::/64, none of which another number has. */
function sampleAddresses(n: number): VmAddresses {
  const hex = n.toString(16).padStart(4, '0');
  return {
    ipv4: `172.16.${n >> 8}.${n & 255}`,
    ipv6: `fd00::${n.toString(16)}`,
    mac: `02:00:ac:10:${hex.slice(0, 2)}:${hex.slice(2)}`,
    tap: `tap${n}`,
  };
}
