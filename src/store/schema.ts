/** Rows as the tables have them. Times are ISO 8601 texts, booleans 0 or 1, structured values JSON. */

export interface VmRow {
  id: string;
  name: string;
  tenant: string;
  state: string;
  engine: string;
  cpus: number;
  memory_mib: number;
  disk_mib: number;
  image_id: string | null;
  snapshot_id: string | null;
  uid: number | null;
  boot: string | null;
  kernel_args: string;
  guest_channel: string;
  root_disk: string;
  data_disks: string;
  egress: string;
  start_mode: string | null;
  created_at: string;
  started_at: string | null;
  stopped_at: string | null;
  changed_at: string;
  reason: string | null;
  console_file: string | null;
  labels: string;
  park_after_seconds: number | null;
  hidden: number;
  /** JSON: what a clone was given of its own, null for a VM that booted. */
  renewal: string | null;
  api_record: string | null;
}

/** A VM's network interfaces with their leases, each of which is UNIQUE over all VMs. */
export interface NicRow {
  vm_id: string;
  /** 0 for the first. */
  position: number;
  name: string;
  families: string;
  ipv4: string;
  ipv6: string | null;
  mac: string;
  tap: string;
  /** JSON of what is no lease: resolvers and limits. */
  options: string;
}

/** The journal: what was being done to a VM. A row exists exactly while the operation is in flight. */
export interface OperationRow {
  vm_id: string;
  kind: string;
  /** JSON: what the operation needs to be finished or undone by a later daemon. */
  detail: string;
  started_at: string;
}

export interface ImageRow {
  id: string;
  name: string;
  directory: string;
  /** JSON of the image's record. */
  record: string;
}

export interface SnapshotRow {
  id: string;
  kind: string;
  created_at: string;
  source_vm_id: string;
  tenant: string;
  image_id: string | null;
  cpus: number;
  memory_mib: number;
  disk_mib: number;
  /** File name of the newest disk layer in the snapshot's directory. */
  layer: string;
  role: string;
  template_key: string | null;
  /** Of its own on the disk: memory and newest layer. */
  bytes: number;
  last_used_at: string | null;
}

export interface ExecLogRow {
  id: string;
  vm_id: string;
  type: string;
  at: string;
  duration_ms: number;
  input: string;
  result: string;
}

export interface ActivityRow {
  id: string;
  at: string;
  type: string;
  entity_type: string | null;
  entity_id: string | null;
  message: string;
  meta: string | null;
}
