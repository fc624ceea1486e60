import { formatHex, parseHex } from '../api/prpc/hex.ts';
import { FormatError } from '../attest/byte-reader.ts';
import { parseEventLog } from '../attest/events.ts';
import { REPORT_DATA_BYTES } from '../attest/quoter.ts';
import type { Expectations, VerifyInput } from '../attest/verify/input.ts';
import { BerthError } from '../common/errors.ts';

/** What is to be verified, as JSON: a reply of Attest or GetQuote. All of it is the prover's word. */
interface ProverJson {
  /** Hex of a versioned attestation. */
  readonly attestation?: unknown;
  /** Or the reply of GetQuote. */
  readonly quote?: unknown;
  readonly event_log?: unknown;
  readonly vm_config?: unknown;
  /** Hex, of GetQuote: what the prover says that the quote binds. */
  readonly report_data?: unknown;
}

/** What an attestation must say, as JSON: the word of who asks. */
interface ExpectedJson {
  /** Hex. */
  readonly report_data?: unknown;
  readonly app_id?: unknown;
  readonly compose_hash?: unknown;
  /** Text of app-compose.json. */
  readonly app_compose?: unknown;
  readonly os_image_hash?: unknown;
  readonly key_provider?: unknown;
  /** Canonical JSON, as a text. */
  readonly mr_config?: unknown;
  /** Hex: registers of the boot. */
  readonly mrtd?: unknown;
  readonly rtmr0?: unknown;
  readonly rtmr1?: unknown;
  readonly rtmr2?: unknown;
}

export interface VerifyRequest {
  readonly input: VerifyInput;
  readonly expected: Expectations;
}

const registerNames = ['mrtd', 'rtmr0', 'rtmr1', 'rtmr2'] as const;

const expectationNames = [
  'report_data',
  'app_id',
  'compose_hash',
  'app_compose',
  'os_image_hash',
  'key_provider',
  'mr_config',
  ...registerNames,
] as const satisfies readonly (keyof ExpectedJson)[];

/**
 * Reads a request to verify: what the prover said, and under `expected` what it must say. Nothing beside `expected` is an
 * expectation, since whoever made the attestation may have written it; where it could be meant as one it is refused.
 *
 * @throws BerthError invalid_argument that names the field
 */
export function readVerifyRequest(json: unknown): VerifyRequest {
  const { expected, ...prover } = asObject(json) as { readonly expected?: unknown };
  for (const name of expectationNames) {
    const isPartOfQuote = name === 'report_data' && !hasAttestation(prover);
    if (!isPartOfQuote && name in prover) throw refusal(`${name}: expectations belong into "expected"`);
  }
  return { input: readVerifyInput(prover), expected: expected === undefined ? {} : readExpectations(expected) };
}

/** @throws BerthError invalid_argument when a field is not known, or empty: it would not be checked */
export function readExpectations(json: unknown): Expectations {
  const expected = asObject(json, 'expected') as ExpectedJson;
  for (const [name, value] of Object.entries(expected)) {
    if (!expectationNames.some((known) => known === name)) throw refusal(`expected: ${name} is not known`);
    if (value === null || value === '' || value === '0x') throw refusal(`${name}: it is empty`);
  }
  const reportData = hexField(expected, 'report_data');
  const appId = hexField(expected, 'app_id');
  const composeHash = hexField(expected, 'compose_hash');
  const appCompose = textField(expected, 'app_compose');
  const osImageHash = hexField(expected, 'os_image_hash');
  const keyProvider = textField(expected, 'key_provider');
  const mrConfig = textField(expected, 'mr_config');
  const registers = registerNames.flatMap((name) => {
    const value = hexField(expected, name);
    return value === null ? [] : [[name, value] as const];
  });
  if (reportData !== null && reportData.length > REPORT_DATA_BYTES) throw refusal('report_data: more than 64 bytes');
  return {
    ...(reportData === null ? {} : { reportData }),
    ...(appId === null ? {} : { appId }),
    ...(composeHash === null ? {} : { composeHash }),
    ...(appCompose === null ? {} : { appCompose }),
    ...(osImageHash === null ? {} : { osImageHash }),
    ...(keyProvider === null ? {} : { keyProvider: { name: keyProvider } }),
    ...(mrConfig === null ? {} : { mrConfig }),
    ...(registers.length === 0 ? {} : { measurements: Object.fromEntries(registers) }),
  };
}

/**
 * Reads what the prover said, and nothing else that is there.
 * @throws BerthError invalid_argument that names the field
 */
export function readVerifyInput(json: unknown): VerifyInput {
  const prover = asObject(json) as ProverJson;
  const attestation = hexField(prover, 'attestation');
  if (attestation !== null && attestation.length > 0) return { attestation };
  const quote = hexField(prover, 'quote');
  if (quote === null) throw refusal('there is neither attestation nor quote');
  const reportData = hexField(prover, 'report_data');
  if (reportData !== null && reportData.length > REPORT_DATA_BYTES) throw refusal('report_data: more than 64 bytes');
  return {
    quote,
    eventLog: readEventLog(prover.event_log),
    config: textField(prover, 'vm_config') ?? '',
    ...(reportData === null ? {} : { reportData }),
  };
}

function hasAttestation({ attestation }: ProverJson): boolean {
  return attestation !== undefined && attestation !== null && attestation !== '';
}

function asObject(json: unknown, name?: string): object {
  if (typeof json === 'object' && json !== null && !Array.isArray(json)) return json;
  throw refusal(`${name === undefined ? '' : `${name}: `}expected an object`);
}

function readEventLog(log: unknown) {
  try {
    return parseEventLog(log);
  } catch (error) {
    if (error instanceof FormatError) throw refusal(`event_log: ${error.message}`);
    throw error;
  }
}

function hexField<T extends object>(request: T, name: keyof T & string): Buffer | null {
  const text = textField(request, name);
  return text === null ? null : Buffer.from(parseHex(text, name));
}

/** A text, or null when there is none. */
function textField<T extends object>(request: T, name: keyof T & string): string | null {
  const value: unknown = request[name];
  if (value === undefined || value === null || value === '') return null;
  if (typeof value !== 'string') throw refusal(`${name}: expected a string`);
  return value;
}

function refusal(reason: string): BerthError {
  return new BerthError('invalid_argument', { reason });
}

/**
 * Reads what `berth verify` is given: the JSON that {@link readVerifyRequest} takes, or an attestation alone, as bytes or
 * in hexadecimal.
 */
export function readVerifyFile(content: Uint8Array): unknown {
  const text = Buffer.from(content).toString('latin1').trim();
  if (text.startsWith('{')) {
    try {
      return JSON.parse(Buffer.from(content).toString('utf8'));
    } catch {
      throw refusal('not JSON');
    }
  }
  return { attestation: /^(?:0x)?[0-9a-fA-F]+$/.test(text) ? text : formatHex(content) };
}
