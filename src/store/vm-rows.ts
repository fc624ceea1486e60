/** A VM's record as rows, and back. */

import type { GuestChannel, StartMode, Vm, VmNic, VmState } from '../vm/model.ts';
import type { NicRow, VmRow } from './schema.ts';

/** With the note that the VM is parked, which has statements of its own. */
export interface StoredVmRow extends VmRow {
  readonly parked: number;
}

export function toRow(vm: Vm): VmRow {
  return {
    id: vm.id,
    name: vm.name,
    tenant: vm.tenant,
    state: vm.state,
    engine: vm.engine,
    cpus: vm.cpus,
    memory_mib: vm.memoryMiB,
    disk_mib: vm.diskMiB,
    image_id: vm.imageId,
    snapshot_id: vm.snapshotId,
    uid: vm.uid,
    boot: vm.boot === null ? null : JSON.stringify(vm.boot),
    kernel_args: vm.kernelArgs,
    guest_channel: vm.guestChannel,
    root_disk: JSON.stringify(vm.rootDisk),
    data_disks: JSON.stringify(vm.dataDisks),
    egress: JSON.stringify(vm.egress),
    start_mode: vm.startMode,
    created_at: vm.createdAt,
    started_at: vm.startedAt,
    stopped_at: vm.stoppedAt,
    changed_at: vm.changedAt,
    reason: vm.reason,
    console_file: vm.consoleFile,
    labels: JSON.stringify(vm.labels),
    api_record: vm.apiRecord,
    park_after_seconds: vm.parkAfterSeconds,
    hidden: vm.hidden ? 1 : 0,
    renewal: vm.renewal === null ? null : JSON.stringify(vm.renewal),
  };
}

export function nicRows(vm: Vm): NicRow[] {
  return vm.nics.map(({ name, families, addresses, ...options }, position) => ({
    vm_id: vm.id,
    position,
    name,
    families,
    ...addresses,
    options: JSON.stringify(options),
  }));
}

export function fromRows(row: StoredVmRow, nicTable: readonly NicRow[]): Vm {
  const nics = Object.freeze(nicTable.map(fromNicRow));
  const [first] = nics;
  if (first === undefined) throw new Error(`the database has no network interface for VM ${row.id}`);
  return Object.freeze({
    id: row.id,
    name: row.name,
    tenant: row.tenant,
    state: row.state as VmState,
    engine: row.engine,
    cpus: row.cpus,
    memoryMiB: row.memory_mib,
    diskMiB: row.disk_mib,
    imageId: row.image_id,
    snapshotId: row.snapshot_id,
    uid: row.uid,
    boot: row.boot === null ? null : (frozen(row.boot) as Vm['boot']),
    kernelArgs: row.kernel_args,
    guestChannel: row.guest_channel as GuestChannel,
    rootDisk: frozen(row.root_disk) as Vm['rootDisk'],
    dataDisks: frozen(row.data_disks) as Vm['dataDisks'],
    addresses: first.addresses,
    nics,
    egress: frozen(row.egress) as Vm['egress'],
    startMode: row.start_mode as StartMode | null,
    createdAt: row.created_at,
    startedAt: row.started_at,
    stoppedAt: row.stopped_at,
    changedAt: row.changed_at,
    reason: row.reason,
    consoleFile: row.console_file,
    labels: frozen(row.labels) as Vm['labels'],
    apiRecord: row.api_record,
    parkAfterSeconds: row.park_after_seconds,
    parked: row.parked === 1,
    hidden: row.hidden === 1,
    renewal: row.renewal === null ? null : (frozen(row.renewal) as Vm['renewal']),
  });
}

function fromNicRow({ name, families, ipv4, ipv6, mac, tap, options }: NicRow): VmNic {
  return Object.freeze({
    name,
    addresses: Object.freeze({ ipv4, ipv6, mac, tap }),
    families: families as VmNic['families'],
    ...(JSON.parse(options) as Pick<VmNic, 'nameservers' | 'rxLimit' | 'txLimit'>),
  });
}

function frozen(json: string): unknown {
  return Object.freeze(JSON.parse(json));
}
