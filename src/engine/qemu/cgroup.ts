import { mkdir, readFile, rmdir, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import type { Log } from '../../common/log.ts';

export interface CgroupLimits {
  /** Hundredths of one CPU, null for no limit. */
  readonly cpuPercent: number | null;
  readonly memoryBytes: number | null;
}

/** Where the host's cgroup controllers are; a null one is not there. */
export interface CgroupMounts {
  readonly version: 1 | 2;
  readonly cpu: string | null;
  readonly memory: string | null;
}

const periodMicros = 100_000;

/** Finds the hierarchies in /proc/self/mountinfo. Version 2 counts only where it has the controllers. */
export function parseMountInfo(mountInfo: string, unifiedControllers: (mount: string) => string): CgroupMounts | null {
  let unified: string | null = null;
  const v1: { cpu: string | null; memory: string | null } = { cpu: null, memory: null };
  for (const line of mountInfo.split('\n')) {
    const [left, right] = line.split(' - ');
    const mount = left?.split(' ')[4];
    const [type, , options] = right?.split(' ') ?? [];
    if (mount === undefined) continue;
    if (type === 'cgroup2') unified = mount;
    if (type !== 'cgroup') continue;
    const controllers = options?.split(',') ?? [];
    if (controllers.includes('cpu')) v1.cpu = mount;
    if (controllers.includes('memory')) v1.memory = mount;
  }
  if (unified !== null) {
    const controllers = unifiedControllers(unified).trim().split(/\s+/);
    const at = (name: string) => (controllers.includes(name) ? unified : null);
    if (at('cpu') !== null || at('memory') !== null) return { version: 2, cpu: at('cpu'), memory: at('memory') };
  }
  return v1.cpu === null && v1.memory === null ? null : { version: 1, ...v1 };
}

/** The files to write and what to write, for one VM's group of one controller. */
export function limitFiles(
  version: 1 | 2,
  limits: CgroupLimits,
): { readonly cpu: Setting[]; readonly memory: Setting[] } {
  const { cpuPercent, memoryBytes } = limits;
  const quota = cpuPercent === null ? null : Math.max(1000, Math.round((cpuPercent * periodMicros) / 100));
  if (version === 2) {
    return {
      cpu: [['cpu.max', `${quota ?? 'max'} ${periodMicros}`]],
      memory: [['memory.max', String(memoryBytes ?? 'max')]],
    };
  }
  return {
    cpu: [
      ['cpu.cfs_period_us', String(periodMicros)],
      ['cpu.cfs_quota_us', String(quota ?? -1)],
    ],
    memory: [['memory.limit_in_bytes', String(memoryBytes ?? -1)]],
  };
}

type Setting = readonly [file: string, value: string];

/** cgroups for VMs, `berth/<instance>/<vm id>` below each controller's mount. */
export class Cgroups {
  readonly #mounts: CgroupMounts | null;
  readonly #instance: string;

  private constructor(mounts: CgroupMounts | null, instance: string) {
    this.#mounts = mounts;
    this.#instance = instance;
  }

  /** Looks for controllers this process may use; those it may not are left out, and the log says why. */
  static async open(instance: string, log: Log): Promise<Cgroups> {
    const mountInfo = await readFile('/proc/self/mountinfo', 'utf8');
    const controllers = new Map<string, string>();
    for (const mount of mountInfo.matchAll(/^\S+ \S+ \S+ \S+ (\S+) .* - cgroup2 /gm)) {
      controllers.set(mount[1]!, await readFile(join(mount[1]!, 'cgroup.controllers'), 'utf8'));
    }
    const mounts = parseMountInfo(mountInfo, (mount) => controllers.get(mount) ?? '');
    if (mounts === null) return new Cgroups(null, instance);
    const usable = async (controller: 'cpu' | 'memory') => {
      const mount = mounts[controller];
      if (mount === null) return null;
      try {
        await prepare(mount, instance, mounts.version === 2 ? controller : null);
        return mount;
      } catch (error) {
        log.warn({ err: error, controller }, 'cgroup controller cannot be used: VMs have no such limit');
        return null;
      }
    };
    return new Cgroups({ version: mounts.version, cpu: await usable('cpu'), memory: await usable('memory') }, instance);
  }

  get cpu(): boolean {
    return this.#mounts?.cpu != null;
  }

  get memory(): boolean {
    return this.#mounts?.memory != null;
  }

  /** The VM's groups, one for each hierarchy. */
  directories(id: string): readonly string[] {
    const mounts = new Set([this.#mounts?.cpu, this.#mounts?.memory].filter((mount) => mount != null));
    return [...mounts].map((mount) => join(mount, 'berth', this.#instance, id));
  }

  /** Makes the VM's groups with these limits. Returns the files a process writes its pid to in order to enter them. */
  async create(id: string, limits: CgroupLimits): Promise<readonly string[]> {
    if (this.#mounts === null) return [];
    const { version } = this.#mounts;
    const settings = limitFiles(version, limits);
    const make = async (controller: 'cpu' | 'memory') => {
      const mount = this.#mounts?.[controller] ?? null;
      if (mount === null) return;
      const directory = join(mount, 'berth', this.#instance, id);
      await mkdir(directory).catch(async (error: NodeJS.ErrnoException) => {
        if (error.code === 'EEXIST') return;
        await prepare(mount, this.#instance, version === 2 ? controller : null);
        await mkdir(directory, { recursive: true });
      });
      for (const [file, value] of settings[controller]) await writeFile(join(directory, file), value);
    };
    // In version 2 both are settings of one group.
    if (version === 1) await Promise.all([make('cpu'), make('memory')]);
    else for (const controller of ['cpu', 'memory'] as const) await make(controller);
    return this.directories(id).map((directory) => join(directory, 'cgroup.procs'));
  }

  /** Removes the VM's groups. Idempotent. Its processes must have ended; the kernel may need a moment to notice. */
  async remove(id: string): Promise<void> {
    for (const directory of this.directories(id)) await removeGroup(directory);
  }

  /** Removes this daemon's own group where no VM is left in it. */
  async close(): Promise<void> {
    for (const directory of this.directories('any')) {
      try {
        await rmdir(dirname(directory));
      } catch (error) {
        const code = (error as NodeJS.ErrnoException).code;
        if (code !== 'EBUSY' && code !== 'ENOTEMPTY' && code !== 'ENOENT') throw error;
      }
    }
  }
}

/** Makes the parent groups and, in version 2, hands the controller down to them. */
async function prepare(mount: string, instance: string, controller: string | null): Promise<void> {
  const parent = join(mount, 'berth', instance);
  await mkdir(parent, { recursive: true });
  if (controller === null) return;
  for (const directory of [mount, dirname(parent), parent]) {
    await writeFile(join(directory, 'cgroup.subtree_control'), `+${controller}`);
  }
}

async function removeGroup(directory: string): Promise<void> {
  for (let attempt = 0; ; attempt++) {
    try {
      await rmdir(directory);
      return;
    } catch (error) {
      const code = (error as NodeJS.ErrnoException).code;
      if (code === 'ENOENT') return;
      if (code !== 'EBUSY' || attempt === 40) throw error;
      await delay(25);
    }
  }
}
