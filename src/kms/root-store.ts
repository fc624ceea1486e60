import { randomBytes } from 'node:crypto';
import { link, mkdir, readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { exists, syncPath, writeFileAtomic } from '../common/files.ts';
import { createRoot, type KmsRoot, parseRoot, serializeRoot } from './root.ts';
import { type PassphraseSealing, SealError, type Sealing, seal, unseal } from './sealed.ts';

const ROOT_FILE = 'kms-root.json';

/** The file with the root of a KMS, for its owner alone. */
export class RootStore {
  readonly #path: string;
  readonly #directory: string;

  constructor(directory: string) {
    this.#directory = directory;
    this.#path = join(directory, ROOT_FILE);
  }

  exists(): Promise<boolean> {
    return exists(this.#path);
  }

  /** @throws SealError when it cannot be opened this way */
  async load(sealing: Sealing): Promise<KmsRoot> {
    return parseRoot(await unseal(await readFile(this.#path, 'utf8'), sealing));
  }

  /** Makes a root. @throws SealError when there is one: its keys would be lost */
  create(sealing: Sealing): Promise<KmsRoot> {
    return this.#add(createRoot(), sealing);
  }

  /** The root, which is made when there is none. */
  async loadOrCreate(sealing: Sealing): Promise<KmsRoot> {
    return (await this.exists()) ? this.load(sealing) : this.create(sealing);
  }

  /** Seals the same root another way: a new passphrase, or a TPM. */
  async reseal(from: Sealing, to: Sealing): Promise<void> {
    const root = await this.load(from);
    await writeFileAtomic(this.#path, await seal(serializeRoot(root), to), 0o600);
  }

  /** The root under a passphrase, as text that can be kept elsewhere. */
  async backup(sealing: Sealing, protection: PassphraseSealing): Promise<string> {
    return seal(serializeRoot(await this.load(sealing)), protection);
  }

  /** Puts a backup in place. @throws SealError when there is a root already, or the passphrase is wrong */
  async restore(backup: string, passphrase: string, sealing: Sealing): Promise<KmsRoot> {
    return this.#add(parseRoot(await unseal(backup, { kind: 'passphrase', passphrase })), sealing);
  }

  async #add(root: KmsRoot, sealing: Sealing): Promise<KmsRoot> {
    const text = await seal(serializeRoot(root), sealing);
    await mkdir(this.#directory, { recursive: true, mode: 0o700 });
    const whole = `${this.#path}.${randomBytes(6).toString('hex')}.new`;
    try {
      await writeFileAtomic(whole, text, 0o600);
      // A file that is there is whole, whatever ends the process. Of two that create at once one fails: no root is replaced.
      await link(whole, this.#path).catch((error: NodeJS.ErrnoException) => {
        throw error.code === 'EEXIST' ? new SealError('there is a root already') : error;
      });
    } finally {
      await rm(whole, { force: true });
    }
    await syncPath(this.#directory);
    return root;
  }
}
