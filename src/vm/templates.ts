import { createHash, randomUUID } from 'node:crypto';
import { readFile, stat } from 'node:fs/promises';
import { setTimeout as delay } from 'node:timers/promises';
import { Serial } from '../common/concurrency.ts';
import { BerthError } from '../common/errors.ts';
import type { StoredSnapshot } from '../store/snapshot-store.ts';
import type { TemplateShape, Vm } from './model.ts';
import type { Operations } from './operations.ts';
import type { CreateVm } from './request.ts';
import type { Snapshots } from './snapshots.ts';
import { shapeOf } from './steps/clone.ts';

/** Changes when templates are made differently, so that old ones are made anew. */
const recipe = 1;
/** Between looks at whether the host has time to build a template, milliseconds. */
const quietPollMs = 200;
const warmUpMs = 30_000;

/** The making of the VM that a template is captured of, by whoever makes VMs. */
export interface TemplateBuilder {
  /** A VM of that shape that nobody sees, booted, with no way out of the host. */
  create(id: string, shape: TemplateShape): Promise<Vm>;
  snapshot(vm: Vm, templateKey: string): Promise<StoredSnapshot>;
  remove(id: string): Promise<void>;
}

/**
 * Snapshots of freshly booted VMs, one for each combination of image, processors and memory that was asked for, from which
 * later VMs of that combination are cloned. They hold nothing of any VM that was in use. A template whose image, engine or
 * guest software has changed has another key than is looked for, and goes.
 */
export class Templates {
  readonly #operations: Operations;
  readonly #snapshots: Snapshots;
  readonly #builder: TemplateBuilder;
  readonly #building = new Serial<'build'>();
  /** Keys under way, or that could not be built: they are not tried again before the daemon restarts. */
  readonly #begun = new Set<string>();
  /** SHA-256 of initramfs files, by what tells that a file is the same. */
  readonly #initrds = new Map<string, string>();
  #closing = false;
  /** The VM a template is being made of; it makes room for those that are asked for. */
  #vmId: string | null = null;

  constructor(operations: Operations, snapshots: Snapshots, builder: TemplateBuilder) {
    this.#operations = operations;
    this.#snapshots = snapshots;
    this.#builder = builder;
  }

  get vmId(): string | null {
    return this.#vmId;
  }

  /** The template that serves a request, or null. */
  async find(request: CreateVm): Promise<StoredSnapshot | null> {
    const shape = this.#shapeFor(request);
    if (shape === null || !this.#mayHave(shape)) return null;
    return this.#byKey(await this.#key(shape));
  }

  /**
   * Builds a template for what a request asked for, once the host has nothing better to do. Resolves with it, null when none
   * was built; never rejects.
   */
  async want(request: CreateVm): Promise<StoredSnapshot | null> {
    const shape = this.#shapeFor(request);
    if (shape === null || !this.#operations.deps.settings.templates.build) return null;
    try {
      return await this.#building.run('build', () => this.#build(shape));
    } catch (error) {
      if (!this.#closing) this.#operations.deps.log.warn({ err: error, ...shape }, 'a template could not be built');
      return null;
    }
  }

  /** Builds a template now, or finds that there is one. */
  async warm(shape: TemplateShape): Promise<StoredSnapshot> {
    const key = await this.#key(shape);
    await this.#building.run('build', () => {
      // What failed before this one's turn is tried again.
      this.#begun.delete(key);
      return this.#build(shape);
    });
    const template = this.#byKey(key);
    if (template !== null) return template;
    if (this.#closing) throw new BerthError('shutting_down');
    throw new BerthError('conflict', { reason: 'The image has changed while its template was made' });
  }

  /** A template that turned out to be of no use, to one or to several at a time. */
  async discard(template: StoredSnapshot): Promise<void> {
    if (this.#snapshots.has(template.id) && !this.#snapshots.isHeld(template.id))
      await this.#snapshots.remove(template);
  }

  /** Removes those of images that are gone; returns them. One that a VM is being made of goes the next time. */
  async discardOrphans(): Promise<readonly StoredSnapshot[]> {
    const { images } = this.#operations.deps;
    const orphans = this.#all().filter(({ imageId }) => imageId === null || images.find(imageId) === null);
    for (const template of orphans) await this.discard(template);
    return orphans;
  }

  /**
   * Takes up what an earlier daemon left: templates of images that are gone go too, and the one that was used last is read
   * into memory. Resolves with that one, null when there is none.
   */
  async resume(): Promise<StoredSnapshot | null> {
    const { layout, memories } = this.#operations.deps;
    await this.discardOrphans();
    const latest = this.#all()
      .sort((a, b) => lastUse(a).localeCompare(lastUse(b)))
      .at(-1);
    if (latest === undefined) return null;
    await memories.load(layout.snapshot(latest.id));
    return latest;
  }

  /** Waits for what is being built; nothing new is begun. */
  async close(): Promise<void> {
    this.#closing = true;
    await this.#building.idle();
  }

  /** Whether it is worth finding out the key. */
  #mayHave({ cpus, memoryMiB }: TemplateShape): boolean {
    return this.#all().some((one) => one.cpus === cpus && one.memoryMiB === memoryMiB);
  }

  #all(): StoredSnapshot[] {
    return this.#snapshots.all().filter(({ role }) => role === 'template');
  }

  #byKey(key: string): StoredSnapshot | null {
    return this.#snapshots.all().find(({ templateKey }) => templateKey === key) ?? null;
  }

  #shapeFor(request: CreateVm): TemplateShape | null {
    if (!isPlain(request)) return null;
    const { imageId, cpus, memoryMiB } = request;
    const { images } = this.#operations.deps;
    // One that is not there is the affair of whoever checks the request.
    const image = imageId === undefined ? images.default() : images.find(imageId);
    return image?.kernel && image.rootfs ? { imageId: image.id, cpus, memoryMiB } : null;
  }

  async #key(shape: TemplateShape): Promise<string> {
    const { engine, images } = this.#operations.deps;
    const { kernel, rootfs } = images.get(shape.imageId);
    const { initrd } = await images.files(shape.imageId);
    const parts = [recipe, kernel?.sha256, rootfs?.sha256, await this.#initrdHash(initrd)];
    const fingerprint = await engine.fingerprint(shapeOf(this.#operations.deps, shape));
    return createHash('sha256')
      .update(JSON.stringify([...parts, fingerprint]))
      .digest('hex');
  }

  async #initrdHash(path: string): Promise<string> {
    const { dev, ino, size, mtimeMs } = await stat(path);
    const identity = `${dev} ${ino} ${size} ${mtimeMs}`;
    let hash = this.#initrds.get(identity);
    if (hash === undefined) {
      hash = createHash('sha256')
        .update(await readFile(path))
        .digest('hex');
      this.#initrds.set(identity, hash);
    }
    return hash;
  }

  /** Null when there is nothing to build, or none came of it. */
  async #build(shape: TemplateShape): Promise<StoredSnapshot | null> {
    const { deps } = this.#operations;
    while (!deps.admission.isIdle && !this.#closing) await delay(quietPollMs);
    const key = await this.#key(shape);
    if (this.#closing || this.#begun.has(key) || this.#byKey(key) !== null) return null;
    this.#begun.add(key);
    try {
      const template = await this.#capture(shape, key);
      if (template === null) return null;
      const { id, diskMiB, bytes } = template;
      deps.log.info({ template: id, ...shape, diskMiB, bytes }, 'template built');
      this.#begun.delete(key);
      await deps.memories.load(deps.layout.snapshot(id));
      await this.#sweep(template, shape);
      return template;
    } catch (error) {
      // What has to do with the image will be so the next time; what has to do with the host may not.
      if (error instanceof BerthError && passing.has(error.code)) this.#begun.delete(key);
      throw error;
    }
  }

  /** A snapshot of a freshly booted VM; null when its image was replaced meanwhile. */
  async #capture(shape: TemplateShape, key: string): Promise<StoredSnapshot | null> {
    const id = randomUUID();
    this.#vmId = id;
    try {
      const vm = await this.#builder.create(id, shape);
      try {
        if ((await this.#key(shape)) !== key) return null;
        await this.#warmUp(id);
        return await this.#builder.snapshot(vm, key);
      } finally {
        await this.#builder.remove(id);
      }
    } finally {
      this.#vmId = null;
    }
  }

  /** What every use of a VM needs is in its memory from then on. An image without a shell makes a template as well. */
  async #warmUp(id: string): Promise<void> {
    const guest = this.#operations.live.get(id)?.guest;
    const exec = guest?.exec({ argv: ['/bin/sh', '-c', ':'], ...asNobody, timeoutMs: warmUpMs });
    exec?.stdout.resume();
    exec?.stderr.resume();
    await exec?.exit.catch(() => {});
  }

  /** Removes older templates of the same shape, then the least recently used ones that the budget does not hold. */
  async #sweep(newest: StoredSnapshot, { imageId, cpus, memoryMiB }: TemplateShape): Promise<void> {
    const others = this.#all()
      .filter(({ id }) => id !== newest.id && !this.#snapshots.isHeld(id))
      .sort((a, b) => lastUse(a).localeCompare(lastUse(b)));
    const isReplaced = (old: StoredSnapshot) =>
      old.imageId === imageId && old.cpus === cpus && old.memoryMiB === memoryMiB;
    let bytes = others.reduce((sum, other) => sum + other.bytes, newest.bytes);
    for (const other of [...others.filter(isReplaced), ...others.filter((other) => !isReplaced(other))]) {
      if (!isReplaced(other) && bytes <= this.#operations.deps.settings.templates.budgetBytes) return;
      bytes -= other.bytes;
      await this.discard(other);
    }
  }
}

/** Whether a VM is wanted that begins as its image says, with the usual devices. */
function isPlain({ snapshotId, start, boot, kernelArgs, guestChannel, disks, nics }: CreateVm): boolean {
  const hasOwnDevices = (disks?.length ?? 0) > 0 || (nics?.length ?? 0) > 0;
  const hasOwnKernel = boot !== undefined || (kernelArgs ?? '') !== '' || guestChannel === 'optional';
  return snapshotId === undefined && start !== false && !hasOwnDevices && !hasOwnKernel;
}

/** Failures that say nothing of the image. */
const passing = new Set(['quota_exceeded', 'insufficient_storage', 'deadline_exceeded', 'conflict', 'internal']);

const asNobody = { cwd: '/', env: {}, uid: 65_534, gid: 65_534 } as const;

function lastUse({ lastUsedAt, createdAt }: StoredSnapshot): string {
  return lastUsedAt ?? createdAt;
}
