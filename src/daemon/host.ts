import { createHash } from 'node:crypto';
import { chmod, mkdir } from 'node:fs/promises';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { Admission } from '../common/concurrency.ts';
import { sweepTemporaries } from '../common/files.ts';
import { hostBootId } from '../common/host-boot.ts';
import type { Log } from '../common/log.ts';
import type { Engine } from '../engine/engine.ts';
import { QemuEngine } from '../engine/qemu/qemu-engine.ts';
import { createGuestClient } from '../guest/client.ts';
import type { ImageStore } from '../image/images.ts';
import type { Network } from '../net/network.ts';
import { LoadedMemories } from '../snapshot/loaded-memories.ts';
import { type Database, openDatabase } from '../store/database.ts';
import { lockHome } from '../store/lock.ts';
import { SnapshotStore } from '../store/snapshot-store.ts';
import { VmStore } from '../store/vm-store.ts';
import { Assets } from '../vm/assets.ts';
import { VmLayout } from '../vm/layout.ts';
import { Vms } from '../vm/service.ts';
import { ConfigError } from './config.ts';
import { openImages } from './images.ts';
import { lockBridge, openNetwork } from './network.ts';
import { hostQuotas } from './quotas.ts';
import { reachAdvice } from './reachable.ts';
import type { Config } from './settings.ts';
import { giveUpSpareSpace } from './spare-space.ts';
import { claimUidBlock } from './uid-block.ts';

/** Everything behind the APIs, on one data directory. */
export interface Host {
  readonly vms: Vms;
  readonly images: ImageStore;
  readonly db: Database;
  readonly engine: Engine;
  readonly network: Network;
  /** Finishes what is in flight and lets go of the data directory; VMs keep running. */
  close(): Promise<void>;
}

const bytesPerMiB = 1024 * 1024;

/** Longest socket path the kernel takes is 107 bytes; `/vms/<id>/run/guest.sock` needs up to 60 of them. */
const longestHome = 43;

/**
 * Takes the data directory's lock, opens the store, makes the network ready and settles what an earlier daemon left.
 * `announce` is given lines for a person, where something takes long.
 */
export async function openHost(config: Config, announce: (line: string) => void, log: Log): Promise<Host> {
  const { home } = config;
  if (Buffer.byteLength(home) > longestHome)
    throw new ConfigError(`the path of the data directory may have at most ${longestHome} bytes: ${home}`);
  await mkdir(home, { recursive: true });
  // VM processes under their own uids pass through to their files, and may list nothing.
  await chmod(home, 0o711);
  const unreachable = await reachAdvice(home);
  if (unreachable !== null) throw new ConfigError(`the data directory is ${home}. ${unreachable}`);
  // Unwound in reverse order, by close() and when a later part of the start fails.
  await using stack = new AsyncDisposableStack();
  const lock = lockHome(home);
  stack.defer(() => lock.release());
  await sweepTemporaries(home);
  await giveUpSpareSpace(home);
  const layout = new VmLayout(home);
  await mkdir(layout.vmsRoot, { recursive: true, mode: 0o711 });
  // VMs have links to what they need of a snapshot.
  await mkdir(layout.snapshotsRoot, { recursive: true });
  await chmod(layout.snapshotsRoot, 0o700);
  const db = openDatabase(join(home, 'berth.db'), (error) => {
    // VMs run on. Whoever starts the daemon again finds out what the disk has; this one cannot.
    log.fatal({ err: error }, 'the disk did not take what was written to the database');
    process.exit(1);
  });
  stack.defer(() => db.close());
  let vms: Vms | null = null;
  const images = await openImages(config, db, {
    // Until the VMs are known every image may be somebody's.
    inUse: (id) => vms === null || vms.list().some((vm) => vm.imageId === id),
    announce,
    log,
  });
  const uidBase = process.getuid?.() === 0 ? await claimUidBlock(home, config['engine.uid_base']) : null;
  const network = await openNetwork(config, log);
  if (network.plan.kind === 'bridge') {
    const bridge = await lockBridge(config['network.bridge']);
    stack.defer(() => bridge.release());
  }
  stack.defer(() => network.close());
  const engine = new QemuEngine({
    accel: config['engine.accel'],
    qemu: config['engine.qemu'],
    // What the probes find out holds for the host, not for one data directory.
    stateDir: join(config.cache, 'engine'),
    instance: createHash('sha256').update(home).digest('hex').slice(0, 12),
    probeUid: uidBase,
    kernelForProbe: async () => {
      const image = images.default();
      return image?.kernel && image.rootfs ? (await images.files(image.id)).kernel : null;
    },
    log: log.child({ room: 'engine' }),
  });
  stack.defer(() => engine.close());
  const memories = new LoadedMemories(config['template.loaded_mib'] * bytesPerMiB);
  stack.defer(() => memories.close());
  vms = await Vms.open({
    store: new VmStore(db),
    snapshots: new SnapshotStore(db),
    engine,
    network,
    images,
    assets: new Assets([join(home, 'images'), ...config['assets.directories']]),
    layout,
    memories,
    guestClient: createGuestClient,
    hostBoot: await hostBootId(),
    settings: {
      quotas: hostQuotas(config, network.plan.ipv4Pool.size),
      defaultDiskMiB: config['disk.default_mib'],
      diskHeadroomMiB: config['disk.headroom_mib'],
      bootTimeoutMs: config['engine.boot_timeout_seconds'] * 1000,
      bootSlotMs: config['engine.boot_slot_seconds'] * 1000,
      stopGraceMs: config['engine.stop_grace_seconds'] * 1000,
      diskReserveMiB: config['disk.reserve_mib'],
      reconcileIntervalMs: config['engine.reconcile_seconds'] * 1000,
      uidBase,
      cpuPercentPerCpu: config['engine.limit_cpu'] ? 100 : null,
      memoryOverheadMiB: config['engine.memory_overhead_mib'] || null,
      layers: { merged: config['disk.merge_layers'], quietMs: 1000 },
      templates: {
        build: config['template.build'],
        budgetBytes: config['template.budget_mib'] * bytesPerMiB,
      },
      spares: { waiting: config['template.waiting'], ready: config['template.ready'] },
      parkAfterSeconds: config['parking.idle_seconds'],
    },
    admission: new Admission(config['engine.concurrent_boots'] || availableParallelism()),
    captures: new Admission(1),
    log: log.child({ room: 'vm' }),
  });
  const service = vms;
  // Found out now rather than when the first VM waits for it.
  engine.capabilities().then(
    ({ acceleration, reason }) => announce(`acceleration: ${acceleration} (${reason})`),
    (error: unknown) => log.error({ err: error }, 'the acceleration could not be probed'),
  );
  stack.defer(() => service.close());
  const open = stack.move();
  return { vms, images, db, engine, network, close: () => open.disposeAsync() };
}
