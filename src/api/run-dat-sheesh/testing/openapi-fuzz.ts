/**
 * Every operation of /openapi.json with valid and invalid parameters and bodies: no status that is not documented, none
 * from 500 on, and every failure in the one error shape.
 */

import assert from 'node:assert/strict';
import type { TestContext } from 'node:test';
import fc from 'fast-check';

interface Schema {
  readonly type?: string;
  readonly properties?: Readonly<Record<string, Schema>>;
  readonly required?: readonly string[];
  readonly items?: Schema;
  readonly additionalProperties?: Schema;
  readonly example?: unknown;
}

interface Operation {
  readonly operationId: string;
  readonly parameters?: readonly { readonly name: string; readonly in: string; readonly required?: boolean }[];
  readonly requestBody?: {
    readonly content: Readonly<Record<string, { readonly schema: Schema; readonly example?: unknown }>>;
  };
  readonly responses: Readonly<Record<string, unknown>>;
}

interface Answer {
  readonly status: number;
  readonly text: string;
}

interface Call {
  readonly ids: readonly string[];
  readonly query: Readonly<Record<string, string>>;
  readonly body: string | undefined;
  readonly contentType: string | undefined;
}

const awkwardText = fc.oneof(
  fc.string({ maxLength: 20 }),
  fc.string({ unit: 'binary', maxLength: 10 }),
  fc.constantFrom(
    '',
    ' ',
    '..',
    '../../etc',
    '/workspace',
    '/workspace/a',
    '%00',
    '\0',
    'null',
    'A=b',
    '10.0.0.0/8',
    '::/0',
  ),
);

/** Text that a header-free part of a request can carry: URLs have no lone surrogates. */
const urlText = awkwardText.map((text) => text.toWellFormed());

const anything: fc.Arbitrary<unknown> = fc.oneof(
  { depthSize: 'small' },
  awkwardText,
  fc.double(),
  fc.integer(),
  fc.boolean(),
  fc.constant(null),
  fc.array(awkwardText, { maxLength: 3 }),
  fc.dictionary(awkwardText, awkwardText, { maxKeys: 3 }),
);

/** Values that fit a schema. */
function fitting(schema: Schema): fc.Arbitrary<unknown> {
  switch (schema.type) {
    case 'string':
      return awkwardText;
    case 'number':
      return fc.oneof(fc.integer({ min: -1, max: 9 }), fc.constantFrom(128, 256, 0.5, 1e9), fc.double({ noNaN: true }));
    case 'boolean':
      return fc.boolean();
    case 'array':
      return fc.array(fitting(schema.items ?? {}), { maxLength: 3 });
    case 'object': {
      const { properties, required = [], additionalProperties } = schema;
      if (properties === undefined)
        return fc.dictionary(awkwardText, fitting(additionalProperties ?? {}), { maxKeys: 3 });
      const members = Object.fromEntries(Object.entries(properties).map(([name, member]) => [name, fitting(member)]));
      return fc.record(members, { requiredKeys: [...required] });
    }
    default:
      return anything;
  }
}

/** A fitting value, one with a member that does not fit or is missing, or something else altogether. */
function bodies(schema: Schema, example: unknown): fc.Arbitrary<unknown> {
  const names = Object.keys(schema.properties ?? { x: {} });
  const spoiled = fc.tuple(fitting(schema), fc.constantFrom(...names), anything).map(([value, name, other]) => ({
    ...(value as object),
    [name]: other,
  }));
  const examples = example === undefined ? [] : [fc.constant(example)];
  return fc.oneof(...examples, fitting(schema), spoiled, anything);
}

function callsOf(operation: Operation, ids: readonly string[]): fc.Arbitrary<Call> {
  const query = (operation.parameters ?? []).filter((parameter) => parameter.in === 'query');
  const [contentType, media] = Object.entries(operation.requestBody?.content ?? {})[0] ?? [undefined, undefined];
  const isJson = contentType === 'application/json';
  const body =
    media === undefined
      ? fc.constant(undefined)
      : isJson
        ? bodies(media.schema, media.example ?? media.schema.example).map((value) => JSON.stringify(value))
        : awkwardText;
  return fc.record({
    ids: fc.array(fc.oneof({ weight: 3, arbitrary: fc.constantFrom(...ids) }, urlText), { minLength: 1, maxLength: 1 }),
    query: fc.record(Object.fromEntries(query.map(({ name }) => [name, urlText])), {
      requiredKeys: [],
    }) as fc.Arbitrary<Record<string, string>>,
    body,
    contentType: fc.oneof(
      { weight: 9, arbitrary: fc.constant(contentType) },
      { weight: 1, arbitrary: fc.constantFrom('application/xml', 'text/plain', 'application/json', 'application/zip') },
    ),
  });
}

export interface Fuzz {
  /** Sends a request with valid credentials; the URL is a path with its query. */
  readonly send: (method: string, url: string, body?: string, headers?: Record<string, string>) => Promise<Answer>;
  /** Ids for an operation's calls, of things that exist: earlier operations stop and delete them. */
  readonly prepare: () => Promise<readonly string[]>;
  /** How many requests an operation gets. */
  readonly runsOf: (operationId: string) => number;
  readonly seed: number;
  /** Look for a smaller call that fails too; needs calls that are quick. */
  readonly shrink: boolean;
}

/** Fuzzes every operation in a subtest of its own. Resolves with the statuses each answered, by operation id. */
export async function fuzzOperations(
  context: TestContext,
  fuzz: Fuzz,
): Promise<ReadonlyMap<string, ReadonlySet<number>>> {
  const document = JSON.parse((await fuzz.send('GET', '/openapi.json')).text);
  const operations = Object.entries<Record<string, Operation>>(document.paths).flatMap(([path, item]) =>
    Object.entries(item).map(([method, operation]) => [method.toUpperCase(), path, operation] as const),
  );
  assert.ok(operations.length >= 28);
  const answered = new Map<string, Set<number>>();
  for (const [method, path, operation] of operations) {
    await context.test(operation.operationId, async () => {
      const ids = await fuzz.prepare();
      const statuses = new Set<number>();
      answered.set(operation.operationId, statuses);
      await fc.assert(
        fc.asyncProperty(callsOf(operation, ids), async (call) => {
          const search = new URLSearchParams(call.query).toString();
          const url = path.replace('{id}', encodeURIComponent(call.ids[0] ?? '')) + (search === '' ? '' : `?${search}`);
          const headers: Record<string, string> =
            call.contentType === undefined || call.body === undefined ? {} : { 'content-type': call.contentType };
          const { status, text } = await fuzz.send(method, url, call.body, headers);
          statuses.add(status);
          assert.ok(status < 500, `${method} ${url}: ${status} ${text}`);
          assert.ok(String(status) in operation.responses, `${method} ${url}: ${status} is not documented`);
          const shape = status >= 400 ? Object.keys(JSON.parse(text)) : ['message'];
          assert.deepEqual(shape, ['message']);
        }),
        { seed: fuzz.seed, numRuns: fuzz.runsOf(operation.operationId), endOnFailure: !fuzz.shrink },
      );
    });
  }
  return answered;
}
