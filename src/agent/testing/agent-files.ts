import { measureBoot } from '../../attest/boot-measurements.ts';
import { sha384 } from '../../attest/hash.ts';
import { serializeMeasurements } from '../measurements-file.ts';

/** What a host puts into a VM for the agent. */
export interface AgentFilesOptions {
  /** Text of app-compose.json. */
  readonly compose: string;
  /** More of agent.json; by default a simulated TEE in `tee` beside it. */
  readonly config?: Readonly<Record<string, unknown>>;
  /** More of .sys-config.json. */
  readonly sysConfig?: object;
}

/** The files by name, relative to the directory of agent.json. */
export function agentFiles({
  compose,
  config = {},
  sysConfig = {},
}: AgentFilesOptions): Readonly<Record<string, string>> {
  const tee = { kind: 'simulated', directory: 'tee', measurements: 'measurements.json' };
  return {
    'agent.json': JSON.stringify({ tee, ...config }),
    'app-compose.json': compose,
    '.sys-config.json': JSON.stringify({ vm_config: '{"spec_version":1}', ...sysConfig }),
    'measurements.json': serializeMeasurements(
      measureBoot({
        firmware: sha384('test firmware'),
        kernel: sha384('test kernel'),
        initramfs: sha384('test initramfs'),
        commandLine: 'quiet',
        rootfs: sha384('test rootfs'),
        hardware: 'a machine for tests',
      }),
    ),
  };
}

/** Settings of an agent that keeps to its directory: what is gone with a boot is in `run`. */
export const inDirectory = {
  app_keys: 'run/keys.json',
  event_log: 'run/events.log',
  sockets: ['run'],
  guest_socket: 'run/guest.sock',
  http: '127.0.0.1:0',
} as const;
