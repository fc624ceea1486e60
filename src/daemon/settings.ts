/**
 * Every setting there is: one row gives its TOML key, environment variable, flag, check, default and help text. The order
 * of precedence is file, environment, flag, later ones winning.
 */

import { isIP } from 'node:net';
import { z } from 'zod';

const listenAddress = z
  .string()
  .regex(/^(unix:\/.+|\[[0-9a-fA-F:]+\]:\d{1,5}|[^:\s]+:\d{1,5})$/, 'must be host:port, [ipv6]:port or unix:/path');

/** A whole number, in a file or as text; `true` and `[]` are none. */
function count(min = 0, max = Number.MAX_SAFE_INTEGER) {
  const text = z.string().regex(/^\d{1,16}$/, 'must be a whole number');
  return z
    .union([z.number(), text], 'must be a whole number')
    .pipe(z.coerce.number<string | number>().int().min(min).max(max));
}

/** Timers hold no more than 24 days; nothing here needs more than one. */
const maxSeconds = 86_400;

const flag = z.union([
  z.boolean(),
  z.enum(['true', 'false', '1', '0']).transform((text) => text === 'true' || text === '1'),
]);
const list = z.union([
  z.array(z.string()),
  z.string().transform((text) => text.split(',').filter((item) => item !== '')),
]);
/** IP addresses, with or without a prefix length. */
const networks = list.refine(
  (items) => items.every((item) => /^[^/]+(\/\d{1,3})?$/.test(item) && isIP(item.split('/')[0] ?? '') !== 0),
  'must be IP addresses or CIDRs',
);

interface Setting<T extends z.ZodType = z.ZodType> {
  readonly schema: T;
  readonly default: z.output<T>;
  readonly help: string;
  readonly secret?: boolean;
}

function setting<T extends z.ZodType>(schema: T, value: z.output<T>, help: string, secret = false): Setting<T> {
  return { schema, default: value, help, secret };
}

export const settings = {
  home: setting(z.string(), '', 'data directory; default /var/lib/berth for root, else in the user state directory'),
  cache: setting(z.string(), '', 'image cache; default /var/cache/berth for root, else in the user cache directory'),
  api_key: setting(z.string().max(512), '', 'API key; made and stored in the data directory when empty', true),
  'log.level': setting(z.enum(['trace', 'debug', 'info', 'warn', 'error', 'silent']), 'info', 'least severe log line'),
  'listen.run_dat_sheesh': setting(listenAddress, '127.0.0.1:3000', 'run dat sheesh API'),
  'listen.metald': setting(listenAddress, '127.0.0.1:8080', 'metald API'),
  'listen.metald_operator': setting(
    z.union([z.literal(''), listenAddress]),
    '',
    'health and full metrics of the metald API; empty: on its own port only',
  ),
  dev: setting(flag, false, 'take dev_customer_<id> for a token of that customer: for development only'),
  'engine.accel': setting(z.enum(['auto', 'kvm', 'tcg']), 'auto', 'acceleration; auto boots a kernel to find out'),
  'engine.qemu': setting(z.string().min(1), 'qemu-system-x86_64', 'QEMU program'),
  'engine.concurrent_boots': setting(count(), 0, 'VMs that boot at a time; 0: one for each core'),
  'engine.boot_timeout_seconds': setting(count(1, maxSeconds), 120, 'time a guest has to answer after its start'),
  'engine.boot_slot_seconds': setting(
    count(1, maxSeconds),
    20,
    'time after which a VM that still boots is not counted any more among those that boot at a time',
  ),
  'engine.stop_grace_seconds': setting(count(1, maxSeconds), 10, 'time a guest has to power off before stronger means'),
  'engine.reconcile_seconds': setting(
    count(1, maxSeconds),
    30,
    'time between looks at what the VMs and the rules of their network really are',
  ),
  'engine.limit_cpu': setting(flag, true, 'hold a VM to one core for each of its vCPUs'),
  'engine.memory_overhead_mib': setting(count(), 384, 'memory of a VM process beside the guest memory; 0: no limit'),
  'engine.uid_base': setting(
    count(1000),
    300_000,
    'first user id for VM processes, when root; a data directory takes 10000',
  ),
  'network.mode': setting(z.enum(['auto', 'bridge', 'user']), 'auto', 'bridge needs root; auto: bridge for root'),
  'network.bridge': setting(z.string().regex(/^[a-zA-Z][a-zA-Z0-9_]{0,11}$/), 'berth0', 'name of the bridge'),
  'network.address': setting(z.string(), '172.16.0.1/24', 'IPv4 address and prefix of the bridge'),
  'network.address6': setting(
    z.string(),
    'fd62:7274:6800::1/64',
    'IPv6 address and prefix of the bridge; empty: no IPv6',
  ),
  'network.resolver': setting(flag, true, 'answer DNS at the gateway for VMs that may go out'),
  'network.upstream': setting(list, [], 'DNS servers the resolver asks; empty: those of the host'),
  'network.connections_per_vm': setting(count(), 4096, 'connections a VM may have open; 0: no limit'),
  'network.dns_per_second_per_vm': setting(count(), 50, 'questions a VM may ask the resolver a second; 0: no limit'),
  'network.unfiltered': setting(
    flag,
    false,
    'without root: VMs allowed everywhere reach what this user reaches, the host itself included',
  ),
  'quota.max_vms': setting(count(), 0, 'VMs; 0: as many as memory and addresses allow'),
  'quota.max_snapshots': setting(count(), 1000, 'snapshots'),
  'quota.max_cpus_per_vm': setting(count(1), 8, 'vCPUs of one VM'),
  'quota.min_memory_mib_per_vm': setting(count(64), 128, 'smallest memory of a VM'),
  'quota.max_memory_mib_per_vm': setting(count(64), 8192, 'largest memory of a VM'),
  'quota.max_disk_mib_per_vm': setting(count(1), 1_048_576, 'largest disk of a VM'),
  'quota.total_cpus': setting(count(), 0, 'vCPUs of all running VMs; 0: sixteen for each core'),
  'quota.total_memory_mib': setting(count(), 0, 'memory of all running VMs; 0: all the host has but a tenth'),
  'quota.total_disk_mib': setting(
    count(),
    0,
    'virtual disk sizes of all VMs; 0: quota.disk_overcommit times the file system',
  ),
  'quota.disk_overcommit': setting(count(1, 1000), 3, 'how often the space of the file system is given to VMs'),
  'quota.tenant_max_vms': setting(count(), 0, 'VMs of one tenant; 0: three quarters of those the host lets be'),
  'quota.tenant_max_snapshots': setting(
    count(),
    0,
    'snapshots of one tenant; 0: three quarters of those the host lets be',
  ),
  'quota.tenant_total_cpus': setting(
    count(),
    0,
    'vCPUs of all running VMs of one tenant; 0: three quarters of those of the host',
  ),
  'quota.tenant_total_memory_mib': setting(
    count(),
    0,
    'memory of all running VMs of one tenant; 0: three quarters of that of the host',
  ),
  'quota.tenant_total_disk_mib': setting(
    count(),
    0,
    'virtual disk sizes of all VMs of one tenant; 0: three quarters of those of the host',
  ),
  'assets.directories': setting(
    list,
    [],
    'directories with kernels and disks that VMs may be made from, beside those of the images',
  ),
  'disk.reserve_mib': setting(
    count(),
    512,
    'free space of the data directory below which VMs and snapshots are refused, and VMs that ran out of it stay paused',
  ),
  'disk.merge_layers': setting(
    count(1, 24),
    8,
    'layers of a disk, one for each snapshot and each clone of a clone, above which those of a running VM are merged',
  ),
  'template.build': setting(flag, true, 'leave a template behind at the first boot of an image with a size'),
  'template.budget_mib': setting(count(), 8192, 'disk that templates may take; the least recently used go'),
  'template.loaded_mib': setting(count(), 2048, 'host memory for templates and snapshots that VMs are cloned from'),
  'template.waiting': setting(count(0, 16), 1, 'processes that wait for the next clone of the template used last'),
  'template.ready': setting(count(0, 64), 0, 'clones of the template used last that stand ready, paused'),
  'parking.idle_seconds': setting(
    count(0, maxSeconds),
    0,
    'idle time after which a VM stands still until it is used; 0: never',
  ),
  'disk.default_mib': setting(count(1), 512, 'root disk of a VM that asks for no size, at least'),
  'disk.headroom_mib': setting(count(), 256, 'how much larger than its image the root disk of such a VM is at least'),
  'image.max_upload_mib': setting(count(1), 3072, 'largest kernel or root file system that may be uploaded'),
  'run_dat_sheesh.max_connections': setting(count(1, 65_536), 1024, 'connections to the API at a time'),
  'run_dat_sheesh.admin_email': setting(z.string(), '', 'administrator who may log in; empty: no login'),
  'run_dat_sheesh.admin_password': setting(z.string(), '', 'password of the administrator', true),
  'run_dat_sheesh.trusted_proxies': setting(
    networks,
    [],
    'addresses and CIDRs of reverse proxies whose X-Forwarded-* headers are believed',
  ),
  'run_dat_sheesh.max_exec_timeout_ms': setting(count(1, maxSeconds * 1000), 120_000, 'longest timeoutMs of exec'),
  'run_dat_sheesh.max_run_timeout_ms': setting(
    count(1, maxSeconds * 1000),
    120_000,
    'longest timeoutMs of run-ts and run-js',
  ),
  'run_dat_sheesh.rate_create': setting(count(), 30, 'POST /v1/vms a minute; 0: no limit'),
  'run_dat_sheesh.rate_exec': setting(count(), 60, 'exec a minute; 0: no limit'),
  'run_dat_sheesh.rate_run': setting(count(), 60, 'run-ts, and run-js, a minute; 0: no limit'),
  'run_dat_sheesh.rate_upload': setting(count(), 30, 'file uploads a minute; 0: no limit'),
  'run_dat_sheesh.rate_download': setting(count(), 60, 'file downloads a minute; 0: no limit'),
  'run_dat_sheesh.rate_login': setting(count(), 10, 'log-ins a minute from one address; 0: no limit'),
  'run_dat_sheesh.rate_other': setting(count(), 120, 'all other calls together a minute; 0: no limit'),
  'metald.json': setting(
    z.enum(['spec', 'proto']),
    'spec',
    'replies in JSON: spec is snake_case and numbers, proto is camelCase and 64-bit numbers as texts',
  ),
  'metald.load_script_rules': setting(
    flag,
    false,
    'ResumeVm starts a VM that is shut down, DeleteVm takes a running one without force',
  ),
  'metald.hide_foreign_vms': setting(flag, false, "answer not_found for other customers' VMs, not permission_denied"),
  'metald.unsupported': setting(
    z.enum(['refuse', 'record']),
    'refuse',
    'configurations that ask for what no VM here is given, such as memory hotplug; record: kept with the VM, without effect',
  ),
  'metald.allow_ips': setting(list, ['0.0.0.0/0', '::/0'], 'CIDRs that VMs may start connections to; empty: none'),
  'metald.tls_cert': setting(z.string(), '', 'PEM file with the certificate, and its chain, of the API; empty: no TLS'),
  'metald.tls_key': setting(z.string(), '', 'PEM file with the key of metald.tls_cert'),
  'metald.max_connections': setting(count(1, 65_536), 1024, 'connections to the API at a time'),
  'metald.traces': setting(
    z.union([z.literal(''), z.url({ protocol: /^https?$/ })]),
    '',
    'collector of OpenTelemetry that is sent a span of each call, e.g. http://127.0.0.1:4318/v1/traces; empty: none',
  ),
  'metald.reflection': setting(flag, false, 'gRPC server reflection, which needs no token'),
  'metald.metrics': setting(
    z.enum(['auto', 'full', 'aggregate', 'off']),
    'auto',
    '/metrics on the API port; auto: full where only this host reaches it, else without customers and VMs',
  ),
  'metald.jwks': setting(z.string(), '', 'key set of JWTs, a URL or a file; empty: no JWTs are taken'),
  'metald.jwt_issuer': setting(z.string(), '', 'iss that JWTs must have'),
  'metald.jwt_audience': setting(z.string(), 'metald', 'aud that JWTs must have'),
  'metald.jwt_customer_claim': setting(z.string().min(1), 'customer_id', 'claim of JWTs that holds the customer id'),
} satisfies Record<string, Setting>;

export type SettingKey = keyof typeof settings;
export type Config = { readonly [K in SettingKey]: (typeof settings)[K]['default'] };

export const settingKeys = Object.keys(settings) as readonly SettingKey[];

/** `engine.uid_base` → `BERTH_ENGINE_UID_BASE`. */
export function environmentName(key: SettingKey): string {
  return `BERTH_${key.replaceAll('.', '_').toUpperCase()}`;
}

/** `engine.uid_base` → `--engine-uid-base`. */
export function flagName(key: SettingKey): string {
  return `--${key.replaceAll(/[._]/g, '-')}`;
}
