import { statfs } from 'node:fs/promises';
import { availableParallelism, cpus, freemem, totalmem } from 'node:os';

/** Processor, memory and disk of this host. CPU use is that between two calls, so the first has none to tell. */
export class HostMonitor {
  readonly #path: string;
  #last: { readonly idle: number; readonly total: number } | null = null;

  constructor(path: string) {
    this.#path = path;
  }

  async usage() {
    const { blocks, bavail, bsize } = await statfs(this.#path);
    const memoryCapacityBytes = totalmem();
    return {
      cpu: this.#cpu(),
      cores: availableParallelism(),
      memoryUsedBytes: memoryCapacityBytes - freemem(),
      memoryCapacityBytes,
      storageUsedBytes: (blocks - bavail) * bsize,
      storageCapacityBytes: blocks * bsize,
    };
  }

  #cpu(): number | null {
    let idle = 0;
    let total = 0;
    for (const { times } of cpus()) {
      idle += times.idle;
      total += times.user + times.nice + times.sys + times.irq + times.idle;
    }
    const last = this.#last;
    this.#last = { idle, total };
    if (!last || total === last.total) return null;
    return 1 - (idle - last.idle) / (total - last.total);
  }
}
