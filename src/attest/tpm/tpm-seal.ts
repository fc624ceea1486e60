import { randomBytes } from 'node:crypto';
import { ScaleReader, ScaleWriter } from '../scale.ts';
import { selection, type TpmTools } from './tools.ts';

/**
 * Secrets that one TPM gives back, and only while the PCRs of the policy hold what they held when the secret was sealed.
 * Secrets pass through standard input and output, as hex, and touch no file.
 */
export class TpmSeal {
  readonly #tools: TpmTools;
  readonly #pcrs: readonly number[];

  /** @param pcrs that the secret is bound to; none binds it to the TPM alone */
  constructor(tools: TpmTools, pcrs: readonly number[] = []) {
    this.#tools = tools;
    this.#pcrs = pcrs;
  }

  /** @returns what {@link unseal} takes; it is not secret */
  seal(secret: Uint8Array): Promise<Buffer> {
    return this.#tools.operation(async ({ path, read, run, runWith }) => {
      await run('tpm2_createprimary', ...parent(path('parent')));
      const policy = await this.#policy(path, run);
      await runWith(
        Buffer.from(secret).toString('hex'),
        'tpm2_create',
        ...['-Q', '-C', path('parent'), '-i', '-', '-u', path('public'), '-r', path('private'), ...policy],
      );
      return new ScaleWriter()
        .bytes(await read('public'))
        .bytes(await read('private'))
        .encode();
    });
  }

  /** @throws CommandError when the TPM is another one, or the PCRs are */
  unseal(sealed: Uint8Array): Promise<Buffer> {
    const reader = new ScaleReader(sealed);
    const [publicPart, privatePart] = [reader.lengthAndBytes(), reader.lengthAndBytes()];
    reader.end();
    return this.#tools.operation(async ({ path, write, run }) => {
      await write('public', publicPart);
      await write('private', privatePart);
      await run('tpm2_createprimary', ...parent(path('parent')));
      await run(
        'tpm2_load',
        ...['-Q', '-C', path('parent'), '-u', path('public'), '-r', path('private'), '-c', path('object')],
      );
      // Their contexts are in files; a session needs the room.
      await run('tpm2_flushcontext', '-t');
      const auth = this.#pcrs.length === 0 ? [] : ['-p', `pcr:${selection(this.#pcrs)}`];
      return Buffer.from(await run('tpm2_unseal', '-c', path('object'), ...auth), 'hex');
    });
  }

  async #policy(
    path: (name: string) => string,
    run: (command: string, ...args: string[]) => Promise<string>,
  ): Promise<string[]> {
    if (this.#pcrs.length === 0) return [];
    await run('tpm2_createpolicy', '-Q', '--policy-pcr', '-l', selection(this.#pcrs), '-L', path('policy'));
    // Without userwithauth there is no other way to it than the policy.
    return ['-L', path('policy'), '-a', 'fixedtpm|fixedparent|noda'];
  }
}

/** The owner's storage key, which every TPM makes anew from its seed. It has no password that could be guessed. */
function parent(context: string): string[] {
  const attributes = 'fixedtpm|fixedparent|sensitivedataorigin|userwithauth|noda|restricted|decrypt';
  return ['-Q', '-C', 'o', '-G', 'ecc256', '-a', attributes, '-c', context];
}

/** Where the seed of an app's keys is in the TPM. */
const SEED_INDEX = '0x1500b17';
const SEED_BYTES = 32;

/**
 * The seed of the keys of an app whose key provider is the TPM: kept in the TPM's own memory, made at the first boot, given
 * back only while `pcrs` are as they were then.
 *
 * @throws CommandError when another boot or app is measured
 */
export function tpmSeed(tools: TpmTools, pcrs: readonly number[]): Promise<Buffer> {
  return tools.operation(async ({ path, run, runWith }) => {
    const isThere = (await run('tpm2_getcap', 'handles-nv-index')).toLowerCase().includes(SEED_INDEX);
    const isWritten = isThere && /\bwritten\b/.test(await run('tpm2_nvreadpublic', SEED_INDEX));
    const auth = `pcr:${selection(pcrs)}`;
    if (!isWritten) {
      // Left by a boot that was cut off before it wrote the seed.
      if (isThere) await run('tpm2_nvundefine', SEED_INDEX, '-C', 'o');
      await run('tpm2_createpolicy', '-Q', '--policy-pcr', '-l', selection(pcrs), '-L', path('policy'));
      // 64 bytes: the seed in hex. Written once, then locked until it is removed.
      await run(
        'tpm2_nvdefine',
        ...['-Q', SEED_INDEX, '-C', 'o', '-s', String(SEED_BYTES * 2), '-L', path('policy')],
        ...['-a', 'policyread|policywrite|writedefine|no_da'],
      );
      const seed = randomBytes(SEED_BYTES).toString('hex');
      await runWith(seed, 'tpm2_nvwrite', '-Q', SEED_INDEX, '-i', '-', '-P', auth);
      await run('tpm2_nvwritelock', SEED_INDEX, '-P', auth);
    }
    const seed = Buffer.from(await run('tpm2_nvread', SEED_INDEX, '-P', auth), 'hex');
    if (seed.length !== SEED_BYTES) throw new Error('the seed in the TPM is damaged');
    return seed;
  });
}
