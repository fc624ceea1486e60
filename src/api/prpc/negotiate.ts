export type Encoding = 'json' | 'protobuf';

/** The parts of a request that decide how it is written, and how the reply and any error are. */
export interface EncodingHints {
  readonly method: string;
  /** Without the question mark; empty when there is none. */
  readonly query: string;
  readonly contentType: string | undefined;
  /** What is there of the body when the decision is made. */
  readonly body: Uint8Array;
}

const leftBrace = 0x7b;

/**
 * JSON for every GET, for `?json`, for the content type application/json, and for a body that begins with a brace, which no
 * request message does. Protobuf otherwise. The Accept header has no say.
 */
export function encodingOf({ method, query, contentType, body }: EncodingHints): Encoding {
  if (method === 'GET' || body[0] === leftBrace) return 'json';
  if (contentType?.split(';', 1)[0]?.trim().toLowerCase() === 'application/json') return 'json';
  const json = new URLSearchParams(query).get('json');
  return json === '' || json === 'true' || json === '1' ? 'json' : 'protobuf';
}

export const contentTypes: Readonly<Record<Encoding, string>> = {
  json: 'application/json',
  protobuf: 'application/octet-stream',
};
