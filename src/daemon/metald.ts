import { readFileSync } from 'node:fs';
import { statfs } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { createMetaldApi, type MetaldApi } from '../api/metald/plugin.ts';
import type { HealthCheck } from '../api/metald/ports.ts';
import { runCommand } from '../common/command.ts';
import type { Log } from '../common/log.ts';
import { parseCidr } from '../net/cidr.ts';
import { CustomerTokenRows } from '../store/customer-token-rows.ts';
import { ConfigError } from './config.ts';
import type { Host } from './host.ts';
import type { Config } from './settings.ts';

const bytesPerMiB = 1024 * 1024;
const commandTimeoutMs = 4000;
const probeWaitMs = 100;

/** The metald API on a host, as configured. */
export async function openMetald(config: Config, host: Host, log: Log): Promise<MetaldApi> {
  const jwks = config['metald.jwks'];
  if (jwks !== '' && config['metald.jwt_issuer'] === '')
    throw new ConfigError('metald.jwks needs metald.jwt_issuer: without it a key set would vouch for any issuer');
  if (!/^(?:https:\/\/|http:\/\/(?:localhost|127\.\d+\.\d+\.\d+|\[::1\])[:/]|\/|$)/.test(jwks))
    throw new ConfigError('metald.jwks must be an https URL, an http URL on this host, or an absolute path');
  const { gateway4, gateway6, nameservers } = host.network.plan;
  return createMetaldApi({
    vms: host.vms,
    images: host.images,
    network: { gateway4, gateway6, nameservers },
    auth: {
      development: config.dev,
      tokens: new CustomerTokenRows(host.db),
      jwt:
        jwks === ''
          ? null
          : {
              keySet: jwks,
              issuer: config['metald.jwt_issuer'],
              audience: config['metald.jwt_audience'],
              customerClaim: config['metald.jwt_customer_claim'],
            },
    },
    settings: {
      // Without root nothing enforces what a VM may reach, so that it reaches nothing.
      allowIps: host.network.plan.kind === 'bridge' ? config['metald.allow_ips'].map(parseCidr) : [],
      loadScriptRules: config['metald.load_script_rules'],
      hideForeignVms: config['metald.hide_foreign_vms'],
      unsupported: config['metald.unsupported'],
    },
    style: config['metald.json'],
    reflection: config['metald.reflection'],
    metricsDetail: metricsDetail(config),
    tracesUrl: config['metald.traces'] || null,
    certificateFiles: certificateFiles(config),
    maxConnections: config['metald.max_connections'],
    health: { checks: healthChecks(config, host), backendCheck: 'backend_ping' },
    backend: host.engine.name,
    version: packageVersion(),
    log,
  });
}

function certificateFiles(config: Config): { readonly cert: string; readonly key: string } | null {
  const [cert, key] = [config['metald.tls_cert'], config['metald.tls_key']];
  if ((cert === '') !== (key === '')) throw new ConfigError('metald.tls_cert and metald.tls_key need each other');
  return cert === '' ? null : { cert, key };
}

/** Who can reach a loopback address or a socket file has the host's own rights, or was let through on purpose. */
function metricsDetail(config: Config): 'full' | 'aggregate' | 'off' {
  const detail = config['metald.metrics'];
  if (detail !== 'auto') return detail;
  return /^(?:unix:|127\.|localhost:|\[::1\])/.test(config['listen.metald']) ? 'full' : 'aggregate';
}

function healthChecks(config: Config, { db, engine }: Host): readonly HealthCheck[] {
  return [
    {
      name: 'backend_ping',
      vital: true,
      async run() {
        await runCommand(config['engine.qemu'], ['--version'], { timeoutMs: commandTimeoutMs });
      },
    },
    {
      name: 'acceleration_probe',
      vital: false,
      async run() {
        // Remembered once it is known; finding out takes a boot, which nobody who asks for the health waits for.
        const capabilities = await Promise.race([engine.capabilities(), sleep(probeWaitMs, null)]);
        if (capabilities === null) throw new Error('the acceleration is not known yet');
      },
    },
    {
      name: 'store',
      vital: true,
      async run() {
        db.get('SELECT count(*) FROM operations');
      },
    },
    {
      name: 'disk',
      vital: true,
      async run() {
        const { bavail, bsize } = await statfs(config.home);
        const freeMiB = (bavail * bsize) / bytesPerMiB;
        if (freeMiB < config['disk.reserve_mib']) throw new Error(`${Math.floor(freeMiB)} MiB are free`);
      },
    },
  ];
}

function packageVersion(): string {
  const file = new URL('../../package.json', import.meta.url);
  return (JSON.parse(readFileSync(file, 'utf8')) as { readonly version: string }).version;
}
