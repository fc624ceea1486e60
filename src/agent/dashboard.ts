import type { AppCompose } from '../attest/app-compose.ts';
import type { AppInfo } from './protocol/dstack-guest.ts';
import type { Container, SystemInfo } from './protocol/guest-api.ts';
import { agentVersion } from './version.ts';

export interface DashboardData {
  readonly compose: AppCompose;
  /** As the public sees it. */
  readonly info: AppInfo;
  readonly simulated: boolean;
  /** Null when the app does not show it. */
  readonly system: SystemInfo | null;
  /** Null when the engine does not answer. */
  readonly containers: readonly Container[] | null;
}

/** The page at the root of the HTTP port. */
export function renderDashboard({ compose, info, simulated, system, containers }: DashboardData): string {
  const hex = (bytes: Uint8Array) => Buffer.from(bytes).toString('hex');
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>${escapeHtml(info.app_name)}</title>
<style>
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 64rem; padding: 0 1rem; color: #1b1f24 }
table { border-collapse: collapse; width: 100% } th, td { text-align: left; padding: .25rem .75rem .25rem 0; border-bottom: 1px solid #ddd; vertical-align: top }
td { overflow-wrap: anywhere } textarea { width: 100%; height: 20rem; font: 13px/1.4 monospace } .note { background: #fff4d6; padding: .5rem .75rem }
</style>
</head>
<body>
<h1>${escapeHtml(info.app_name)}</h1>
${simulated ? '<p class="note">Simulated TEE: quotes of this VM are signed by its host, not by a processor.</p>' : ''}
${rows('App', [
  ['App id', hex(info.app_id)],
  ['Instance id', hex(info.instance_id)],
  ['Compose hash', hex(info.compose_hash)],
  ['Device id', hex(info.device_id)],
  ['Key provider', info.key_provider_info],
  ['Machine', `${info.cloud_vendor} ${info.cloud_product}`.trim()],
  ['Agent', `${agentVersion.version} (${agentVersion.rev})`],
])}
${system === null ? '' : renderSystem(system)}
${renderContainers(containers, compose.publicLogs)}
<h2>TCB info</h2>
${compose.publicTcbinfo ? `<textarea readonly>${escapeHtml(info.tcb_info)}</textarea>` : '<p>TCB info is not public</p>'}
</body>
</html>
`;
}

function renderSystem(system: SystemInfo): string {
  const mib = (bytes: bigint) => `${bytes / 1024n / 1024n} MiB`;
  return `${rows('System', [
    ['Operating system', `${system.os_name} ${system.os_version}`],
    ['Kernel', system.kernel_version],
    ['Processors', `${system.num_cpus} x ${system.cpu_model}`],
    ['Memory', `${mib(system.used_memory)} of ${mib(system.total_memory)}`],
    ['Swap', `${mib(system.used_swap)} of ${mib(system.total_swap)}`],
    ['Uptime', `${system.uptime} s`],
    [
      'Load average',
      [system.loadavg_one, system.loadavg_five, system.loadavg_fifteen].map((each) => each / 100).join(', '),
    ],
    ...system.disks.map(({ mount_point: place, total_size: total, free_size: free }): [string, string] => [
      `Disk ${place}`,
      `${mib(total - free)} of ${mib(total)}`,
    ]),
  ])}<p><a href="/metrics">Metrics</a></p>`;
}

function renderContainers(containers: readonly Container[] | null, logs: boolean): string {
  if (containers === null) return '<h2>Containers</h2><p>The container engine does not answer.</p>';
  const lines = containers.map(({ id, names, status }) => {
    const name = (names[0] ?? id).replace(/^\//, '');
    const href = `/logs/${encodeURIComponent(name)}?text&bare&timestamps&follow&tail=20`;
    const link = logs ? `<a href="${escapeHtml(href)}">log</a>` : '';
    return `<tr><td>${escapeHtml(name)}</td><td>${escapeHtml(status)}</td><td>${link}</td></tr>`;
  });
  return `<h2>Containers</h2>
<table><tr><th>Name</th><th>Status</th><th></th></tr>${lines.join('')}</table>`;
}

function rows(title: string, pairs: readonly (readonly [string, string])[]): string {
  const lines = pairs.map(([name, value]) => `<tr><th>${escapeHtml(name)}</th><td>${escapeHtml(value)}</td></tr>`);
  return `<h2>${escapeHtml(title)}</h2>\n<table>${lines.join('')}</table>`;
}

function escapeHtml(text: string): string {
  return text.replace(/[&<>"']/g, (character) => `&#${character.charCodeAt(0)};`);
}
