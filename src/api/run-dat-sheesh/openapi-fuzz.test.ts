/**
 * Every operation of /openapi.json with valid and invalid parameters and bodies: no status that is not documented, none
 * from 500 on, and every failure in the one error shape.
 *
 * Runs against fakes. BERTH_FUZZ_URL and BERTH_FUZZ_KEY aim it at a live daemon (it creates and deletes things there);
 * BERTH_FUZZ_RUNS sets how many requests each operation gets, BERTH_FUZZ_SEED which.
 */

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import fc from 'fast-check';
import { FakeVms } from './testing/fake-vms.ts';
import { createTestApi, type TestApi, testKey } from './testing/test-api.ts';

const liveUrl = process.env.BERTH_FUZZ_URL;
const runs = Number(process.env.BERTH_FUZZ_RUNS ?? 60);
const seed = Number(process.env.BERTH_FUZZ_SEED ?? 20_260_102);

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

let api: TestApi;
let operations: (readonly [method: string, path: string, operation: Operation])[];

async function send(method: string, url: string, call?: Call): Promise<Answer> {
  const headers: Record<string, string> = {
    'x-api-key': process.env.BERTH_FUZZ_KEY ?? testKey,
    ...(call?.contentType === undefined || call.body === undefined ? {} : { 'content-type': call.contentType }),
  };
  if (liveUrl === undefined) return api.call(method, url, call?.body, headers);
  const response = await fetch(liveUrl + url, {
    method,
    headers,
    ...(call?.body === undefined ? {} : { body: call.body }),
  });
  return { status: response.status, text: await response.text() };
}

/** New objects for each operation, because others delete and stop them. */
async function prepare(): Promise<readonly string[]> {
  const image = await api.images.create({ name: 'n', description: 'd' });
  const stopped = await api.createVm();
  await api.vms.stop(stopped);
  return [await api.createVm(), stopped, image.id];
}

before(async () => {
  api = await createTestApi({ vms: new FakeVms({ maxVms: 1000 }) });
  const document = JSON.parse((await send('GET', '/openapi.json')).text);
  operations = Object.entries<Record<string, Operation>>(document.paths).flatMap(([path, item]) =>
    Object.entries(item).map(([method, operation]) => [method.toUpperCase(), path, operation] as const),
  );
});

after(() => api.app.close());

test(`every operation answers as documented (seed ${seed}, ${runs} requests each)`, async (context) => {
  assert.ok(operations.length >= 28);
  for (const [method, path, operation] of operations) {
    // A password hash costs a tenth of a second on purpose.
    const numRuns = operation.operationId === 'login' ? Math.min(runs, 10) : runs;
    await context.test(operation.operationId, async () => {
      const ids = await prepare();
      await fc.assert(
        fc.asyncProperty(callsOf(operation, ids), async (call) => {
          const search = new URLSearchParams(call.query).toString();
          const url = path.replace('{id}', encodeURIComponent(call.ids[0] ?? '')) + (search === '' ? '' : `?${search}`);
          const { status, text } = await send(method, url, call);
          assert.ok(status < 500, `${method} ${url}: ${status} ${text}`);
          assert.ok(String(status) in operation.responses, `${method} ${url}: ${status} is not documented`);
          const shape = status >= 400 ? Object.keys(JSON.parse(text)) : ['message'];
          assert.deepEqual(shape, ['message']);
        }),
        { seed, numRuns },
      );
    });
  }
});
