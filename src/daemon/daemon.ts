import { chmod, mkdir } from 'node:fs/promises';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { pino } from 'pino';
import { createRunDatSheeshApi } from '../api/run-dat-sheesh/plugin.ts';
import { Admission } from '../common/concurrency.ts';
import { writeFileAtomic } from '../common/files.ts';
import type { Log } from '../common/log.ts';
import { QemuEngine } from '../engine/qemu/qemu-engine.ts';
import { createGuestClient } from '../guest/client.ts';
import { ActivityRows } from '../store/activity-rows.ts';
import { ApiKeyRows } from '../store/api-key-rows.ts';
import { openDatabase } from '../store/database.ts';
import { ExecLogRows } from '../store/exec-log-rows.ts';
import { lockHome } from '../store/lock.ts';
import { SnapshotStore } from '../store/snapshot-store.ts';
import { VmStore } from '../store/vm-store.ts';
import { VmLayout } from '../vm/layout.ts';
import { Vms } from '../vm/service.ts';
import { chooseApiKey } from './api-key.ts';
import { HostMonitor } from './host-monitor.ts';
import { openImages } from './images.ts';
import { listen } from './listen.ts';
import { openNetwork } from './network.ts';
import { notifySystemd } from './notify.ts';
import { hostQuotas } from './quotas.ts';
import type { Config } from './settings.ts';

export interface Daemon {
  /** URL of each listener by the API folder's name. */
  readonly urls: Readonly<Record<string, string>>;
  readonly apiKey: string;
  /** Stops serving, finishes what is in flight and lets go of the data directory. */
  stop(options: { readonly stopVms: boolean }): Promise<void>;
}

/** Longest socket path the kernel takes is 107 bytes; `vms/<uuid>/run/<name>.sock` needs 64 of them. */
const longestHome = 43;

/**
 * Starts everything on a data directory: lock, store, network, engine, recovery, listeners. `announce` is given the
 * lines a person at the terminal wants to see.
 */
export async function startDaemon(
  config: Config,
  { announce }: { readonly announce: (line: string) => void },
): Promise<Daemon> {
  const { home } = config;
  if (Buffer.byteLength(home) > longestHome)
    throw new Error(`the data directory's path may have at most ${longestHome} bytes: ${home}`);
  const log: Log = pino({ level: config['log.level'] }, pino.destination({ fd: 2, sync: false }));
  await mkdir(home, { recursive: true, mode: 0o711 });
  // VM processes under their own uids pass through to their files, and may list nothing.
  await chmod(home, 0o711);
  // Unwound in reverse, by stop() and when a later part of the start fails.
  const stack = new AsyncDisposableStack();
  try {
    const lock = lockHome(home);
    stack.defer(() => lock.release());
    const layout = new VmLayout(home);
    for (const dir of [layout.vmsRoot, layout.snapshotsRoot, join(home, 'state'), join(home, 'spool')]) {
      await mkdir(dir, { recursive: true, mode: 0o711 });
    }
    const key = await chooseApiKey(config.api_key, home);
    const db = await openDatabase(join(home, 'berth.db'));
    stack.defer(() => db.destroy());
    const store = new VmStore(db);
    let vms: Vms | null = null;
    const images = await openImages(config, db, {
      inUse: (id) => vms?.list().some((vm) => vm.imageId === id) ?? true,
      announce,
      log,
    });
    const network = await openNetwork(config, log);
    stack.defer(() => network.close());
    const engine = new QemuEngine({
      accel: config['engine.accel'],
      qemu: config['engine.qemu'],
      stateDir: join(home, 'state'),
      kernelForProbe: async () => {
        const image = images.default();
        return image?.kernel && image.rootfs ? (await images.files(image.id)).kernel : null;
      },
      log: log.child({ room: 'engine' }),
    });
    stack.defer(() => engine.close());
    const isRoot = process.getuid?.() === 0;
    vms = await Vms.open({
      store,
      snapshots: new SnapshotStore(db),
      engine,
      network,
      images,
      layout,
      guestClient: createGuestClient,
      settings: {
        quotas: hostQuotas(config, network.plan.ipv4Pool.size),
        defaultDiskMiB: config['disk.default_mib'],
        bootTimeoutMs: config['engine.boot_timeout_seconds'] * 1000,
        stopGraceMs: config['engine.stop_grace_seconds'] * 1000,
        uidBase: isRoot ? config['engine.uid_base'] : null,
        cpuPercentPerCpu: config['engine.limit_cpu'] ? 100 : null,
        memoryOverheadMiB: config['engine.memory_overhead_mib'] || null,
      },
      admission: new Admission(config['engine.concurrent_boots'] || availableParallelism()),
      log: log.child({ room: 'vm' }),
    });
    const service = vms;
    stack.defer(() => service.close());
    const email = config['run_dat_sheesh.admin_email'];
    const app = await createRunDatSheeshApi({
      vms,
      images,
      auth: {
        apiKey: key.key,
        keys: new ApiKeyRows(db),
        admin: email === '' ? null : { email, password: config['run_dat_sheesh.admin_password'] },
      },
      execLog: new ExecLogRows(db),
      activity: new ActivityRows(db),
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
        others: config['run_dat_sheesh.rate_other'],
      },
      spoolDirectory: join(home, 'spool'),
      log: log.child({ room: 'run-dat-sheesh' }),
    });
    stack.defer(() => app.close());
    const urls = { 'run-dat-sheesh': await listen(app, config['listen.run_dat_sheesh']) };
    await writeFileAtomic(join(home, 'listeners.json'), `${JSON.stringify(urls, null, 2)}\n`);
    await notifySystemd('READY=1', log);
    for (const [name, url] of Object.entries(urls)) announce(`${name}: ${url}`);
    announce(describeKey(key));
    const running = stack.move();
    return {
      urls,
      apiKey: key.key,
      async stop({ stopVms }) {
        await notifySystemd('STOPPING=1', log);
        if (stopVms) await service.stopAll();
        await running.disposeAsync();
      },
    };
  } catch (error) {
    await stack.disposeAsync();
    throw error;
  }
}

function describeKey(key: Awaited<ReturnType<typeof chooseApiKey>>): string {
  if (key.file === null) return 'API key: as configured';
  return key.isNew ? `API key: ${key.key} (shown this once; kept in ${key.file})` : `API key: in ${key.file}`;
}
