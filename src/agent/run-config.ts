import { dirname, resolve } from 'node:path';
import { BerthError } from '../common/errors.ts';

/** Settings of the agent in a VM. Paths are absolute. */
export interface RunConfig {
  /** The app's description. */
  readonly appCompose: string;
  /**
   * The app's keys. When the file is missing they are got from the app's key provider and written there; belongs into a
   * file system that is empty at each boot.
   */
  readonly appKeys: string;
  /** What the host says of the VM; `vm_config` in it goes into quotes. May be missing. */
  readonly sysConfig: string;
  /** App and instance id; may be missing. */
  readonly instanceInfo: string;
  /** Runtime events; belongs into a file system that is empty at each boot. */
  readonly eventLog: string;
  /** Directories in which dstack.sock and tappd.sock are made. */
  readonly sockets: readonly string[];
  /** Socket of what the host asks. */
  readonly guestSocket: string;
  readonly http: { readonly host: string; readonly port: number };
  readonly dockerSocket: string;
  /** Mount points whose sizes are told. */
  readonly dataDisks: readonly string[];
  readonly tee: TeeConfig;
  /** Command that powers the VM off; empty when the host does it in another way. */
  readonly shutdown: readonly string[];
}

/**
 * Where quotes come from. `simulated`: a TDX platform whose keys are in the VM; `tdx`: this machine's own, through the
 * kernel; `tpm`: a TPM. `measurements` is a file with what the host measured before the boot.
 */
export type TeeConfig =
  | { readonly kind: 'simulated'; readonly directory: string; readonly measurements: string }
  | { readonly kind: 'tdx' }
  | { readonly kind: 'tpm'; readonly tcti: string; readonly measurements: string };

/** Names in the file, and what counts when they are not in it. */
const defaults = {
  app_compose: 'app-compose.json',
  app_keys: '/run/dstack/.appkeys.json',
  sys_config: '.sys-config.json',
  instance_info: '.instance_info',
  event_log: '/run/log/dstack/runtime_events.log',
  sockets: ['/run', '/run/dstack'] as readonly string[],
  guest_socket: '/run/dstack/guest.sock',
  http: '[::]:8090',
  docker_socket: '/var/run/docker.sock',
  data_disks: ['/'] as readonly string[],
  tee: {} as object,
  shutdown: [] as readonly string[],
};

/**
 * Reads the agent's configuration, a JSON object.
 * @param path of the file; relative paths in it start at its directory
 * @throws BerthError invalid_argument that names the setting
 */
export function parseRunConfig(text: string, path: string): RunConfig {
  const given = parseObject(text);
  const unknown = Object.keys(given).find((name) => !Object.hasOwn(defaults, name));
  if (unknown !== undefined) throw refusal(`${unknown} is no setting`);
  const file = new Section({ ...defaults, ...given }, dirname(resolve(path)));
  return {
    appCompose: file.path('app_compose'),
    appKeys: file.path('app_keys'),
    sysConfig: file.path('sys_config'),
    instanceInfo: file.path('instance_info'),
    eventLog: file.path('event_log'),
    sockets: file.list('sockets').map((directory) => file.resolve(directory)),
    guestSocket: file.path('guest_socket'),
    http: parseAddress(file.text('http')),
    dockerSocket: file.path('docker_socket'),
    dataDisks: file.list('data_disks'),
    tee: parseTee(file.section('tee')),
    shutdown: file.list('shutdown'),
  };
}

function parseTee(tee: Section): TeeConfig {
  const kind = tee.text('kind');
  switch (kind) {
    case 'simulated':
      return { kind, directory: tee.path('directory'), measurements: tee.path('measurements') };
    case 'tdx':
      return { kind };
    case 'tpm':
      return { kind, tcti: tee.text('tcti'), measurements: tee.path('measurements') };
    default:
      throw refusal('tee.kind is none of simulated, tdx, tpm');
  }
}

/**
 * `host:port` or `[ipv6]:port`.
 * @throws BerthError invalid_argument
 */
export function parseAddress(text: string): { readonly host: string; readonly port: number } {
  const match = /^(\[[0-9a-fA-F:.]+\]|[^:[\]\s]+):(\d{1,5})$/.exec(text);
  if (!match || Number(match[2]) > 65_535) throw refusal('an address is host:port');
  return { host: match[1]!.replace(/^\[|\]$/g, ''), port: Number(match[2]) };
}

/** An object of the file with typed access to its members. */
class Section {
  readonly #values: Readonly<Record<string, unknown>>;
  readonly #directory: string;

  constructor(values: object, directory: string) {
    this.#values = values as Readonly<Record<string, unknown>>;
    this.#directory = directory;
  }

  resolve(path: string): string {
    return resolve(this.#directory, path);
  }

  text(name: string): string {
    const value = this.#values[name];
    if (typeof value !== 'string' || value === '') throw refusal(`${name} is not a text`);
    return value;
  }

  path(name: string): string {
    return this.resolve(this.text(name));
  }

  list(name: string): readonly string[] {
    const value = this.#values[name];
    if (!Array.isArray(value) || value.some((each) => typeof each !== 'string'))
      throw refusal(`${name} is no list of texts`);
    return value as string[];
  }

  section(name: string): Section {
    const value = this.#values[name];
    if (typeof value !== 'object' || value === null || Array.isArray(value)) throw refusal(`${name} is not an object`);
    return new Section(value, this.#directory);
  }
}

function parseObject(text: string): object {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    throw refusal('the file is not JSON');
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value))
    throw refusal('the file is not a JSON object');
  return value;
}

function refusal(reason: string): BerthError {
  return new BerthError('invalid_argument', { reason: `agent configuration: ${reason}` });
}
