import { formatHex, parseHex } from '../api/prpc/hex.ts';
import { FormatError } from '../attest/byte-reader.ts';
import { parseEventLog } from '../attest/events.ts';
import type { Expectations, VerifyInput } from '../attest/verify/input.ts';
import { BerthError } from '../common/errors.ts';

/** What is to be verified and what it must say, as JSON: a reply of Attest or GetQuote with expectations beside. */
interface VerifyJson {
  /** Hex of a versioned attestation. */
  readonly attestation?: unknown;
  /** Or the reply of GetQuote. */
  readonly quote?: unknown;
  readonly event_log?: unknown;
  readonly vm_config?: unknown;
  /** Hex, also of GetQuote. */
  readonly report_data?: unknown;
  readonly app_id?: unknown;
  readonly compose_hash?: unknown;
  /** Text of app-compose.json. */
  readonly app_compose?: unknown;
  readonly os_image_hash?: unknown;
  readonly key_provider?: unknown;
}

export interface VerifyRequest {
  readonly input: VerifyInput;
  readonly expected: Expectations;
}

/**
 * Reads a request to verify.
 * @throws BerthError invalid_argument that names the field
 */
export function readVerifyRequest(json: unknown): VerifyRequest {
  if (typeof json !== 'object' || json === null || Array.isArray(json)) throw refusal('expected an object');
  const request = json as VerifyJson;
  const reportData = hexField(request, 'report_data');
  const appId = hexField(request, 'app_id');
  const composeHash = hexField(request, 'compose_hash');
  const appCompose = textField(request, 'app_compose');
  const osImageHash = hexField(request, 'os_image_hash');
  const keyProvider = textField(request, 'key_provider');
  return {
    input: readInput(request),
    expected: {
      ...(reportData === null ? {} : { reportData }),
      ...(appId === null ? {} : { appId }),
      ...(composeHash === null ? {} : { composeHash }),
      ...(appCompose === null ? {} : { appCompose }),
      ...(osImageHash === null ? {} : { osImageHash }),
      ...(keyProvider === null ? {} : { keyProvider: { name: keyProvider } }),
    },
  };
}

function readInput(request: VerifyJson): VerifyInput {
  const attestation = hexField(request, 'attestation');
  if (attestation !== null && attestation.length > 0) return { attestation };
  const quote = hexField(request, 'quote');
  if (quote === null) throw refusal('there is neither attestation nor quote');
  return { quote, eventLog: readEventLog(request.event_log), config: textField(request, 'vm_config') ?? '' };
}

function readEventLog(log: unknown) {
  try {
    return parseEventLog(log);
  } catch (error) {
    if (error instanceof FormatError) throw refusal(`event_log: ${error.message}`);
    throw error;
  }
}

function hexField(request: VerifyJson, name: keyof VerifyJson): Buffer | null {
  const text = textField(request, name);
  return text === null ? null : Buffer.from(parseHex(text, name));
}

/** A text, or null when there is none. */
function textField(request: VerifyJson, name: keyof VerifyJson): string | null {
  const value = request[name];
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
