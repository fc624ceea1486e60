import { randomUUID } from 'node:crypto';
import type { Readable } from 'node:stream';
import { buffer } from 'node:stream/consumers';
import { BerthError } from '../../../common/errors.ts';
import type { Image, ImageFile, ImageFiles, ImageStore } from '../../../image/images.ts';
import type {
  Activity,
  ActivityLog,
  ApiKeyRecord,
  ApiKeyStore,
  ExecLogEntry,
  ExecLogStore,
  ExecLogType,
  HostMonitor,
} from '../ports.ts';

const uploadedAt = '2026-01-02T03:04:05.678Z';

export class FakeImages implements ImageStore {
  readonly #images = new Map<string, Image>();
  /** Ids that VMs use. */
  readonly used = new Set<string>();

  list(): readonly Image[] {
    return [...this.#images.values()];
  }

  get(id: string): Image {
    const image = this.#images.get(id);
    if (image === undefined) throw new BerthError('image_not_found');
    return image;
  }

  find(idOrName: string): Image | null {
    return this.list().find((image) => image.id === idOrName || image.name === idOrName) ?? null;
  }

  default(): Image | null {
    return this.list().find((image) => image.isDefault) ?? null;
  }

  async create(input: { readonly name: string; readonly description: string }): Promise<Image> {
    return this.#put({
      ...input,
      id: `img-${randomUUID()}`,
      createdAt: uploadedAt,
      kernel: null,
      rootfs: null,
      isDefault: false,
    });
  }

  async putKernel(id: string, body: Readable): Promise<Image> {
    return this.#put({ ...this.get(id), kernel: await this.#file(body) });
  }

  async putRootfs(id: string, body: Readable): Promise<Image> {
    return this.#put({ ...this.get(id), rootfs: await this.#file(body) });
  }

  async putBundle(id: string, body: Readable): Promise<Image> {
    const file = await this.#file(body);
    return this.#put({ ...this.get(id), kernel: file, rootfs: file });
  }

  async setDefault(id: string): Promise<Image> {
    const image = this.get(id);
    for (const other of this.list()) this.#put({ ...other, isDefault: false });
    return this.#put({ ...image, isDefault: true });
  }

  async remove(id: string): Promise<void> {
    this.get(id);
    if (this.used.has(id)) throw new BerthError('image_in_use');
    this.#images.delete(id);
  }

  async files(): Promise<ImageFiles> {
    throw new Error('not faked');
  }

  async #file(body: Readable): Promise<ImageFile> {
    const { length } = await buffer(body);
    if (length === 0) throw new BerthError('image_invalid', { reason: 'empty' });
    return { sha256: '0'.repeat(64), bytes: length, uploadedAt };
  }

  #put(image: Image): Image {
    this.#images.set(image.id, image);
    return image;
  }
}

export class FakeApiKeys implements ApiKeyStore {
  readonly records = new Map<string, ApiKeyRecord>();
  touches = 0;

  async list(): Promise<readonly ApiKeyRecord[]> {
    return [...this.records.values()].reverse();
  }

  async findByPrefix(prefix: string): Promise<ApiKeyRecord | null> {
    return [...this.records.values()].find((record) => record.prefix === prefix) ?? null;
  }

  async insert(record: ApiKeyRecord): Promise<void> {
    this.records.set(record.id, record);
  }

  async revoke(id: string, at: string): Promise<ApiKeyRecord | null> {
    return this.#change(id, (record) => ({ ...record, revokedAt: record.revokedAt ?? at }));
  }

  async touch(id: string, at: string): Promise<void> {
    this.touches += 1;
    this.#change(id, (record) => ({ ...record, lastUsedAt: at }));
  }

  #change(id: string, change: (record: ApiKeyRecord) => ApiKeyRecord): ApiKeyRecord | null {
    const record = this.records.get(id);
    if (record === undefined) return null;
    const changed = change(record);
    this.records.set(id, changed);
    return changed;
  }
}

export class FakeExecLog implements ExecLogStore {
  readonly entries = new Map<string, ExecLogEntry[]>();

  async append(vmId: string, entry: ExecLogEntry): Promise<void> {
    this.entries.set(vmId, [entry, ...(this.entries.get(vmId) ?? [])]);
  }

  async list(vmId: string, query: { readonly limit: number; readonly type: ExecLogType | null }) {
    const matching = (this.entries.get(vmId) ?? []).filter((entry) => query.type === null || entry.type === query.type);
    return { entries: matching.slice(0, query.limit), hasMore: matching.length > query.limit };
  }
}

export class FakeActivity implements ActivityLog {
  readonly items: Activity[] = [];

  async record(activity: Activity): Promise<void> {
    this.items.unshift(activity);
  }

  async list(limit: number): Promise<readonly Activity[]> {
    return this.items.slice(0, limit);
  }
}

export const fakeHost: HostMonitor = {
  usage: async () => ({
    cpu: 0.25,
    cores: 2,
    memoryUsedBytes: 1,
    memoryCapacityBytes: 2,
    storageUsedBytes: 3,
    storageCapacityBytes: 4,
  }),
};
