/** What this API needs from the rest of the daemon besides VMs and images. The daemon implements these over its store. */

/** A key that clients made for themselves; its secret is stored only as a hash. */
export interface ApiKeyRecord {
  /** UUIDv4. */
  readonly id: string;
  readonly name: string;
  /** 12 hex digits, unique: the public half of `rds_<prefix>_<secret>`. */
  readonly prefix: string;
  /** Lower-case hex SHA-256 of the whole key. The secret has 192 random bits, so a slow hash would add nothing. */
  readonly hash: string;
  /** ISO 8601, UTC, milliseconds; so are the times below. */
  readonly createdAt: string;
  readonly expiresAt: string | null;
  readonly revokedAt: string | null;
  readonly lastUsedAt: string | null;
}

export interface ApiKeyStore {
  /** Newest first. */
  list(): Promise<readonly ApiKeyRecord[]>;
  /** Called for each request that carries such a key: one indexed read. */
  findByPrefix(prefix: string): Promise<ApiKeyRecord | null>;
  insert(record: ApiKeyRecord): Promise<void>;
  /** Sets `revokedAt` unless it is set already. Resolves with the record as it is then, null when there is none. */
  revoke(id: string, at: string): Promise<ApiKeyRecord | null>;
  /** Notes that the key was used; called at most once a minute per key. */
  touch(id: string, at: string): Promise<void>;
}

export const execLogTypes = ['exec', 'run-ts', 'run-js'] as const;
export type ExecLogType = (typeof execLogTypes)[number];

/** One command that ran. Values of environment variables are never part of it. */
export interface ExecLogEntry {
  /** UUIDv4. */
  readonly id: string;
  /** When it began: ISO 8601, UTC, milliseconds. */
  readonly timestamp: string;
  readonly type: ExecLogType;
  readonly durationMs: number;
  /** JSON object as this API shows it, below 512 KiB. */
  readonly input: string;
  /** JSON object as this API shows it, below 512 KiB. */
  readonly result: string;
}

/** Entries go with the row of their VM. */
export interface ExecLogStore {
  /** The store keeps a bounded number of entries per VM and drops the oldest. */
  append(vmId: string, entry: ExecLogEntry): Promise<void>;
  /** Newest first, at most `limit`; `type` null means all. */
  list(
    vmId: string,
    query: { readonly limit: number; readonly type: ExecLogType | null },
  ): Promise<{ readonly entries: readonly ExecLogEntry[]; readonly hasMore: boolean }>;
}

/** One line of the activity feed. Carries no secrets and no command texts. */
export interface Activity {
  readonly id: string;
  readonly createdAt: string;
  /** For example `vm.created`, `exec.command`, `image.default_set`. */
  readonly type: string;
  readonly entityType?: 'vm' | 'snapshot' | 'image' | 'api_key';
  readonly entityId?: string;
  readonly message: string;
  readonly meta?: Readonly<Record<string, string | number | boolean | null>>;
}

export interface ActivityLog {
  /** The store keeps a bounded number and drops the oldest. */
  record(activity: Activity): Promise<void>;
  /** Newest first. */
  list(limit: number): Promise<readonly Activity[]>;
}

/** What the host has and uses, for the overview. */
export interface HostUsage {
  /** Share of all cores in use, 0 to 1; null while it is not known. */
  readonly cpu: number | null;
  readonly cores: number;
  readonly memoryUsedBytes: number;
  readonly memoryCapacityBytes: number;
  readonly storageUsedBytes: number;
  readonly storageCapacityBytes: number;
}

export interface HostMonitor {
  usage(): Promise<HostUsage>;
}
