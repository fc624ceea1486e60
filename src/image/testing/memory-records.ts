import type { ImageRecord, ImageRecords } from '../records.ts';

/** The image table in memory. */
export class MemoryImageRecords implements ImageRecords {
  readonly rows = new Map<string, ImageRecord>();
  defaultId: string | null = null;

  async list(): Promise<readonly ImageRecord[]> {
    return [...this.rows.values()];
  }
  async insert(record: ImageRecord): Promise<void> {
    if (this.rows.has(record.id)) throw new Error(`row ${record.id} exists`);
    this.rows.set(record.id, record);
  }
  async update(record: ImageRecord): Promise<void> {
    if (!this.rows.has(record.id)) throw new Error(`row ${record.id} does not exist`);
    this.rows.set(record.id, record);
  }
  async delete(id: string): Promise<void> {
    this.rows.delete(id);
    if (this.defaultId === id) this.defaultId = null;
  }
  async getDefault(): Promise<string | null> {
    return this.defaultId;
  }
  async setDefault(id: string): Promise<void> {
    this.defaultId = id;
  }
}
