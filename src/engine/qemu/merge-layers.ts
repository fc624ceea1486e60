/**
 * Merging of a disk's layers by a block job of the VM's process (docs/interop/live-block-operations.rst in QEMU's sources):
 * the process has all files open, and needs no other right than that to write its newest layer.
 */

import { basename } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { BerthError } from '../../common/errors.ts';
import { failpoint } from '../../common/failpoint.ts';
import { syncAll } from '../../common/files.ts';
import type { EngineMerge } from '../engine.ts';
import { blockNodes } from './block-nodes.ts';
import { isObject, type QmpClient, QmpClosedError, QmpError, type QmpEvent } from './qemu-qmp.ts';

/** Milliseconds for a command, or the end of a job, on a busy disk. */
const timeoutMs = 30_000;
/** Milliseconds between looks at a job that is to end. */
const endPollMs = 5;

/** See `Engine.mergeLayers`. */
export async function mergeLayers(qmp: QmpClient, merge: EngineMerge): Promise<void> {
  const { disk, above, base, bytesPerSecond, signal } = merge;
  signal.throwIfAborted();
  await endMerge(qmp, disk);
  const [node] = await blockNodes(qmp, disk);
  const baseNode = await nodeOf(qmp, disk, base);
  const id = jobId(disk);
  using job = new Job(qmp, id);
  try {
    await qmp.execute(
      'block-stream',
      {
        'job-id': id,
        device: node.name,
        'base-node': baseNode,
        // A name relative to the layer, as all headers have it.
        'backing-file': basename(base),
        'auto-finalize': false,
        speed: bytesPerSecond ?? 0,
      },
      timeoutMs,
    );
    await untilAborted(job.copied, signal);
    failpoint('merge.stream.copied');
    // Written from here, where nobody stands still for it: QEMU's flush holds the guest, and has little left to do then.
    await untilAborted(syncAll(above), signal);
    // The table of what was copied is in QEMU's memory still. Were the header changed before it is in the file, a process that
    // is killed would leave a layer that reads as its new base where it should read as what was merged.
    const complaint = await qmp.execute(
      'human-monitor-command',
      { 'command-line': `qemu-io ${node.name} flush` },
      timeoutMs,
    );
    if (complaint !== '') throw new Error(`the newest layer could not be flushed: ${complaint}`);
    failpoint('merge.stream.flushed');
    await qmp.execute('job-finalize', { id }, timeoutMs);
    await untilAborted(job.ended, AbortSignal.timeout(timeoutMs));
  } catch (error) {
    // A process that is gone has no job.
    if (!(error instanceof QmpClosedError)) await endMerge(qmp, disk);
    throw error;
  }
}

/** Breaks off a merge that may be under way, or left by an earlier daemon. Resolves when the disk is free. */
export async function endMerge(qmp: QmpClient, disk: string): Promise<void> {
  const id = jobId(disk);
  if (!(await isUnderWay(qmp, id))) return;
  await qmp.execute('block-job-cancel', { device: id, force: true }, timeoutMs).catch((error: unknown) => {
    // It ended by itself meanwhile, or is about to.
    if (!(error instanceof QmpError)) throw error;
  });
  const deadline = performance.now() + timeoutMs;
  while (await isUnderWay(qmp, id)) {
    if (performance.now() > deadline) throw new BerthError('deadline_exceeded', { operation: 'Ending a merge' });
    await delay(endPollMs);
  }
}

/** Name of the block node below a disk that reads `path`. */
async function nodeOf(qmp: QmpClient, disk: string, path: string): Promise<string> {
  const files = await qmp.execute('query-named-block-nodes', { flat: true });
  const file = (Array.isArray(files) ? files : []).find(
    (node: unknown) => isObject(node) && node.drv === 'file' && node.file === path,
  );
  const [, ...below] = await blockNodes(qmp, disk);
  const found = isObject(file) ? below.find((node) => node.file === file['node-name']) : undefined;
  if (found === undefined) throw new Error(`disk ${disk} does not stand on ${basename(path)}`);
  return found.name;
}

async function isUnderWay(qmp: QmpClient, id: string): Promise<boolean> {
  const jobs = await qmp.execute('query-block-jobs');
  return Array.isArray(jobs) && jobs.some((job) => isObject(job) && job.device === id);
}

function jobId(disk: string): string {
  return `merge-${disk}`;
}

/** What becomes of a job, told by QEMU's events from the moment this is made. */
class Job implements Disposable {
  readonly #copied = Promise.withResolvers<void>();
  readonly #ended = Promise.withResolvers<void>();
  readonly #id: string;
  readonly #forget: () => void;

  constructor(qmp: QmpClient, id: string) {
    this.#id = id;
    for (const { promise } of [this.#copied, this.#ended]) promise.catch(() => {});
    this.#forget = qmp.onEvent((event) => this.#onEvent(event));
    void qmp.closed.then(() => this.#fail(new QmpClosedError()));
  }

  /** Resolves when everything is in the newest layer, and the job waits to be told to make an end. */
  get copied(): Promise<void> {
    return this.#copied.promise;
  }

  /** Resolves when the newest layer stands on its new base. */
  get ended(): Promise<void> {
    return this.#ended.promise;
  }

  [Symbol.dispose](): void {
    this.#forget();
  }

  #onEvent({ event, data }: QmpEvent): void {
    if (event === 'BLOCK_JOB_PENDING' && data.id === this.#id) this.#copied.resolve();
    if (data.device !== this.#id) return;
    if (event === 'BLOCK_JOB_CANCELLED') this.#fail(new Error('the merge was broken off'));
    if (event !== 'BLOCK_JOB_COMPLETED') return;
    if (data.error !== undefined) this.#fail(new Error(`the merge failed: ${data.error}`));
    this.#ended.resolve();
  }

  #fail(error: Error): void {
    this.#copied.reject(error);
    this.#ended.reject(error);
  }
}

/** Rejects with the signal's reason when that comes first. */
async function untilAborted(promise: Promise<void>, signal: AbortSignal): Promise<void> {
  const aborted = Promise.withResolvers<never>();
  const onAbort = () => aborted.reject(signal.reason);
  signal.addEventListener('abort', onAbort);
  try {
    signal.throwIfAborted();
    await Promise.race([promise, aborted.promise]);
  } finally {
    signal.removeEventListener('abort', onAbort);
  }
}
