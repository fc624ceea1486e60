import { mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { pino } from 'pino';
import { createRunDatSheeshApi } from '../api/run-dat-sheesh/plugin.ts';
import { writeFileAtomic } from '../common/files.ts';
import type { Log } from '../common/log.ts';
import { ActivityRows } from '../store/activity-rows.ts';
import { ApiKeyRows } from '../store/api-key-rows.ts';
import { ExecLogRows } from '../store/exec-log-rows.ts';
import { type ApiKeyChoice, chooseApiKey } from './api-key.ts';
import { openHost } from './host.ts';
import { HostMonitor } from './host-monitor.ts';
import { listen, listenerOf } from './listen.ts';
import { openMetald } from './metald.ts';
import { notifySystemd } from './notify.ts';
import type { Config } from './settings.ts';
import { keepSpareSpace } from './spare-space.ts';

export interface Daemon {
  /** URL of each listener by the API folder's name. */
  readonly urls: Readonly<Record<string, string>>;
  readonly apiKey: string;
  /** Stops serving, finishes what is in flight and lets go of the data directory. */
  stop(options: { readonly stopVms: boolean }): Promise<void>;
}

/** Milliseconds that requests in flight have when the daemon stops, before they are interrupted, and again before they are cut. */
const graceMs = 5000;

export interface DaemonOptions {
  /** Given the lines a person at the terminal wants to see; the log goes to standard error. */
  readonly announce: (line: string) => void;
  /** Called when everything answers, before anybody is told: whoever is told may ask the daemon to stop at once. */
  readonly beforeReady?: () => void;
}

/** Starts everything on a data directory and serves it. */
export async function startDaemon(config: Config, { announce, beforeReady }: DaemonOptions): Promise<Daemon> {
  const { home } = config;
  let countLogLine: (level: string) => void = () => {};
  const log: Log = pino(
    {
      level: config['log.level'],
      hooks: {
        logMethod(args, write, level) {
          countLogLine(pino.levels.labels[level] ?? String(level));
          write.apply(this, args);
        },
      },
    },
    pino.destination({ fd: 2, sync: false }),
  );
  await using stack = new AsyncDisposableStack();
  const host = await openHost(config, announce, log);
  stack.defer(() => host.close());
  // Whoever finds the file finds a daemon that answers.
  const listenersFile = join(home, 'listeners.json');
  await rm(listenersFile, { force: true });
  stack.defer(() => rm(listenersFile, { force: true }));
  const key = await chooseApiKey(config.api_key, home);
  const spoolDirectory = join(home, 'spool');
  await mkdir(spoolDirectory, { recursive: true, mode: 0o700 });
  const email = config['run_dat_sheesh.admin_email'];
  const app = await createRunDatSheeshApi({
    vms: host.vms,
    images: host.images,
    auth: {
      apiKey: key.key,
      keys: new ApiKeyRows(host.db),
      admin: email === '' ? null : { email, password: config['run_dat_sheesh.admin_password'] },
    },
    execLog: new ExecLogRows(host.db),
    activity: new ActivityRows(host.db),
    host: new HostMonitor(home),
    limits: {
      maxExecTimeoutMs: config['run_dat_sheesh.max_exec_timeout_ms'],
      maxRunTimeoutMs: config['run_dat_sheesh.max_run_timeout_ms'],
    },
    rateLimits: {
      createVm: config['run_dat_sheesh.rate_create'],
      exec: config['run_dat_sheesh.rate_exec'],
      runTs: config['run_dat_sheesh.rate_run'],
      runJs: config['run_dat_sheesh.rate_run'],
      upload: config['run_dat_sheesh.rate_upload'],
      download: config['run_dat_sheesh.rate_download'],
      login: config['run_dat_sheesh.rate_login'],
      others: config['run_dat_sheesh.rate_other'],
    },
    spoolDirectory,
    trustProxy: config['run_dat_sheesh.trusted_proxies'],
    maxConnections: config['run_dat_sheesh.max_connections'],
    log: log.child({ room: 'run-dat-sheesh' }),
  });
  stack.defer(() => app.close());
  const metald = await openMetald(config, host, log.child({ room: 'metald' }));
  stack.defer(() => metald.close());
  countLogLine = metald.countLogLine;
  const operatorAddress = config['listen.metald_operator'];
  const urls = {
    'run-dat-sheesh': await listen(
      { scheme: 'http', server: app.server, listen: (where) => app.listen(where) },
      config['listen.run_dat_sheesh'],
    ),
    metald: await listen(
      listenerOf(metald.server, config['metald.tls_cert'] === '' ? 'http' : 'https'),
      config['listen.metald'],
    ),
    ...(operatorAddress === ''
      ? {}
      : { 'metald-operator': await listen(listenerOf(metald.operatorServer), operatorAddress) }),
  };
  beforeReady?.();
  await writeFileAtomic(listenersFile, `${JSON.stringify(urls, null, 2)}\n`);
  await keepSpareSpace(home, log);
  await notifySystemd('READY=1', log);
  for (const [name, url] of Object.entries(urls)) announce(`${name}: ${url}`);
  announce(describeKey(key));
  if (config.dev) announce('DEVELOPMENT MODE: whoever reaches the metald API is any customer they say they are');
  const running = stack.move();
  return {
    urls,
    apiKey: key.key,
    async stop({ stopVms }) {
      await notifySystemd('STOPPING=1', log);
      if (stopVms) await host.vms.stopAll();
      // A command may run for minutes, and a service manager waits less.
      const interrupt = setTimeout(() => host.vms.interrupt(), graceMs);
      const cut = setTimeout(() => {
        app.server.closeAllConnections();
        metald.closeAllConnections();
      }, 2 * graceMs);
      await running.disposeAsync();
      clearTimeout(interrupt);
      clearTimeout(cut);
    },
  };
}

function describeKey(key: ApiKeyChoice): string {
  if (key.file === null) return 'API key: as configured';
  return key.isNew ? `API key: ${key.key} (shown this once; kept in ${key.file})` : `API key: in ${key.file}`;
}
