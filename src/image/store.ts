/** The image store: a directory per image under the data directory, a row per image in the database. */

import { randomUUID } from 'node:crypto';
import { mkdir, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { Readable } from 'node:stream';
import { Serial } from '../common/concurrency.ts';
import { BerthError } from '../common/errors.ts';
import { syncPath } from '../common/files.ts';
import type { Log } from '../common/log.ts';
import { acceptFile, type ImagePart } from './accept.ts';
import { readBundle } from './bundle.ts';
import type { CachedImage } from './cache.ts';
import { partNames, publishParts } from './directory.ts';
import type { Image, ImageFiles, ImageStore } from './images.ts';
import { Initrds, type MakeInitrd } from './initrds.ts';
import { linkOrCopy } from './link-or-copy.ts';
import { openImages, removingPrefix } from './open.ts';
import { type Received, type ReceiveLimits, receiveFile } from './receive.ts';
import { type ImageRecord, type ImageRecords, writeImageManifest } from './records.ts';
import { temporaryName } from './temporary.ts';

export interface ImageStoreOptions {
  /** Directory of the image directories; must exist. */
  readonly root: string;
  readonly records: ImageRecords;
  /** Whether a VM that is not removed was made from the image. */
  readonly inUse: (id: string) => boolean;
  readonly makeInitrd: MakeInitrd;
  readonly log: Log;
  /** Largest file that may be uploaded, default 3 GiB. */
  readonly maxFileBytes?: number;
  /** Free space that uploads leave, default 256 MiB. */
  readonly reserveBytes?: number;
}

/** A file in an image's directory that is not part of the image yet. */
interface StagedFile extends Received {
  readonly path: string;
}

type Staged = Map<ImagePart, StagedFile>;

export class DirectoryImageStore implements ImageStore {
  readonly #options: ImageStoreOptions;
  readonly #limits: ReceiveLimits;
  readonly #initrds: Initrds;
  /** Changes to one image are made one after another; uploads run side by side until then. */
  readonly #serial = new Serial<string>();
  /** In the order of creation. */
  readonly #images: Map<string, ImageRecord>;
  #defaultId: string | null;

  private constructor(options: ImageStoreOptions, images: readonly ImageRecord[], defaultId: string | null) {
    this.#options = options;
    this.#limits = {
      maxBytes: options.maxFileBytes ?? 3 * 1024 ** 3,
      reserveBytes: options.reserveBytes ?? 256 * 1024 ** 2,
    };
    this.#initrds = new Initrds(options.makeInitrd);
    this.#images = new Map(images.map((image) => [image.id, image]));
    this.#defaultId = defaultId;
  }

  /** Opens the store, after making rows and directories agree: see {@link openImages}. */
  static async open(options: ImageStoreOptions): Promise<DirectoryImageStore> {
    const images = await openImages(options.root, options.records, options.log);
    return new DirectoryImageStore(options, images, await options.records.getDefault());
  }

  list(): readonly Image[] {
    return Array.from(this.#images.values(), (record) => this.#view(record));
  }

  get(id: string): Image {
    return this.#view(this.#record(id));
  }

  find(idOrName: string): Image | null {
    const record = this.#images.get(idOrName);
    if (record) return this.#view(record);
    const named = Array.from(this.#images.values()).filter(({ name }) => name === idOrName);
    return named.length === 1 ? this.#view(named[0]!) : null;
  }

  default(): Image | null {
    const record = this.#defaultId === null ? undefined : this.#images.get(this.#defaultId);
    return record ? this.#view(record) : null;
  }

  async create(input: { readonly name: string; readonly description: string }): Promise<Image> {
    const id = `img-${randomUUID()}`;
    const directory = await this.#makeDirectory(id, input.name);
    const { name, description } = input;
    const record: ImageRecord = { id, name, description, createdAt: now(), kernel: null, rootfs: null, directory };
    await writeImageManifest(this.#dir(record), record);
    await syncPath(this.#options.root);
    await this.#options.records.insert(record);
    this.#images.set(id, record);
    return this.#view(record);
  }

  putKernel(id: string, body: Readable): Promise<Image> {
    return this.#change(id, (staged) => this.#receive(id, 'kernel', body, staged));
  }

  putRootfs(id: string, body: Readable): Promise<Image> {
    return this.#change(id, (staged) => this.#receive(id, 'rootfs', body, staged));
  }

  putBundle(id: string, body: Readable): Promise<Image> {
    return this.#change(id, async (staged) => {
      const zip = temporaryName(join(this.#dir(this.#record(id)), 'bundle'));
      try {
        await receiveFile(body, zip, { ...this.#limits, maxBytes: 2 * this.#limits.maxBytes });
        await readBundle(zip, (part, content) => this.#receive(id, part, content, staged));
      } finally {
        await rm(zip, { force: true });
      }
    });
  }

  /**
   * Makes an image of a built one, without copying where the file system allows. An image of that name with the very same
   * files is returned as it is; one without files, as an import that was cut off leaves it, is given them.
   */
  async importCached(
    cached: CachedImage,
    options: { readonly name?: string; readonly default?: boolean } = {},
  ): Promise<Image> {
    const { manifest } = cached;
    const name = options.name ?? manifest.name;
    const same = this.list().find(
      (each) =>
        each.name === name &&
        each.kernel?.sha256 === manifest.kernel.sha256 &&
        each.rootfs?.sha256 === manifest.rootfs.sha256,
    );
    const begun = this.list().find((each) => each.name === name && each.kernel === null && each.rootfs === null);
    const image = same ?? begun ?? (await this.create({ name, description: manifest.description }));
    if (!same) {
      await this.#change(image.id, async (staged) => {
        const dir = this.#dir(this.#record(image.id));
        for (const part of ['kernel', 'rootfs'] as const) {
          const path = temporaryName(join(dir, partNames[part]));
          await linkOrCopy(cached[part], path);
          staged.set(part, { path, ...manifest[part] });
        }
      });
    }
    return options.default ? await this.setDefault(image.id) : this.get(image.id);
  }

  setDefault(id: string): Promise<Image> {
    return this.#serial.run(id, async () => {
      const record = this.#record(id);
      await this.#options.records.setDefault(id);
      this.#defaultId = id;
      return this.#view(record);
    });
  }

  remove(id: string): Promise<void> {
    return this.#serial.run(id, async () => {
      const record = this.#record(id);
      if (this.#options.inUse(id)) throw new BerthError('image_in_use');
      const dir = this.#dir(record);
      const removing = join(this.#options.root, `${removingPrefix}${id}`);
      // One move takes the image away; what follows is tidying, and is repeated at the next start if cut off.
      this.#images.delete(id);
      try {
        await rename(dir, removing);
      } catch (error) {
        this.#images.set(id, record);
        throw error;
      }
      await syncPath(this.#options.root);
      if (this.#defaultId === id) this.#defaultId = null;
      this.#initrds.forget(dir);
      await this.#options.records.delete(id);
      await rm(removing, { recursive: true });
    });
  }

  files(id: string): Promise<ImageFiles> {
    return this.#serial.run(id, async () => {
      const record = this.#record(id);
      if (record.kernel === null || record.rootfs === null) throw new BerthError('image_incomplete');
      const dir = this.#dir(record);
      const kernel = join(dir, partNames.kernel);
      const rootfs = join(dir, partNames.rootfs);
      const initrd = await this.#initrds.ensure(dir, {
        kernel: { path: kernel, sha256: record.kernel.sha256 },
        rootfs: { path: rootfs, sha256: record.rootfs.sha256 },
      });
      return { kernel, rootfs, initrd };
    });
  }

  /** Lets `stage` bring new files, then puts them into the image together. Whatever fails, nothing is left of them. */
  async #change(id: string, stage: (staged: Staged) => Promise<void>): Promise<Image> {
    this.#record(id);
    const staged: Staged = new Map();
    try {
      await stage(staged);
      return await this.#serial.run(id, () => this.#publish(id, staged));
    } catch (error) {
      // Removed meanwhile, and its directory with it: that is what went wrong, whatever it looked like.
      throw this.#images.has(id) ? error : new BerthError('image_not_found', {}, error);
    } finally {
      for (const { path } of staged.values()) await rm(path, { force: true });
    }
  }

  async #publish(id: string, staged: Staged): Promise<Image> {
    const before = this.#record(id);
    const uploadedAt = now();
    const changes = Array.from(staged, ([part, { sha256, bytes }]) => [part, { sha256, bytes, uploadedAt }]);
    const record: ImageRecord = { ...before, ...Object.fromEntries(changes) };
    const paths = new Map(Array.from(staged, ([part, { path }]) => [part, path]));
    await publishParts(this.#dir(record), record, paths);
    this.#images.set(id, record);
    await this.#options.records.update(record);
    return this.#view(record);
  }

  async #receive(id: string, part: ImagePart, body: Readable, staged: Staged): Promise<void> {
    const path = temporaryName(join(this.#dir(this.#record(id)), partNames[part]));
    try {
      const received = await receiveFile(body, path, this.#limits);
      staged.set(part, { path, ...(await acceptFile(part, path, received)) });
    } catch (error) {
      await rm(path, { force: true });
      throw error;
    }
  }

  /** The image's name where it can be a directory's, for people who look into it; else its id. */
  async #makeDirectory(id: string, name: string): Promise<string> {
    if (/^[a-z0-9][a-z0-9._-]{0,62}$/.test(name)) {
      try {
        await mkdir(join(this.#options.root, name), { mode: 0o755 });
        return name;
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
      }
    }
    await mkdir(join(this.#options.root, id), { mode: 0o755 });
    return id;
  }

  #dir(record: ImageRecord): string {
    return join(this.#options.root, record.directory);
  }

  #record(id: string): ImageRecord {
    const record = this.#images.get(id);
    if (!record) throw new BerthError('image_not_found');
    return record;
  }

  #view({ directory: _, ...record }: ImageRecord): Image {
    return { ...record, isDefault: record.id === this.#defaultId };
  }
}

function now(): string {
  return new Date().toISOString();
}
