import type { FastifyInstance, InjectOptions } from 'fastify';
import { pino } from 'pino';
import { createRunDatSheeshApi, type RunDatSheeshOptions } from '../plugin.ts';
import type { RateLimits } from '../settings.ts';
import { FakeActivity, FakeApiKeys, FakeExecLog, FakeImages, fakeHost } from './fake-stores.ts';
import { FakeVms } from './fake-vms.ts';

export const testKey = 'test-key-0123456789abcdef';
export const testAdmin = { email: 'admin@example.org', password: 'correct horse battery staple' };
export const smallVm = { cpu: 1, memMb: 256, allowIps: [] as string[] };

export const noRateLimits: RateLimits = {
  createVm: 0,
  exec: 0,
  runTs: 0,
  runJs: 0,
  upload: 0,
  download: 0,
  login: 0,
  others: 0,
};

export interface TestAnswer {
  readonly status: number;
  readonly text: string;
  readonly headers: Readonly<Record<string, string | number | string[] | undefined>>;
  // biome-ignore lint/suspicious/noExplicitAny: answers are asserted on, not typed.
  readonly json: any;
}

export interface TestApi extends AsyncDisposable {
  readonly app: FastifyInstance;
  readonly vms: FakeVms;
  readonly images: FakeImages;
  readonly keys: FakeApiKeys;
  readonly execLog: FakeExecLog;
  readonly activity: FakeActivity;
  /** With the key unless the headers say otherwise; an object as payload is sent as JSON. */
  call(method: string, url: string, payload?: unknown, headers?: Record<string, string>): Promise<TestAnswer>;
  /** Without credentials. */
  anonymous(method: string, url: string, payload?: unknown, headers?: Record<string, string>): Promise<TestAnswer>;
  createVm(body?: object): Promise<string>;
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** The API over fakes, without rate limits unless given. Use with `await using`. */
export async function createTestApi(options: Partial<RunDatSheeshOptions> = {}): Promise<TestApi> {
  const vms = (options.vms as FakeVms | undefined) ?? new FakeVms();
  const images = new FakeImages();
  const keys = new FakeApiKeys();
  const execLog = new FakeExecLog();
  const activity = new FakeActivity();
  const app = await createRunDatSheeshApi({
    images,
    auth: { apiKey: testKey, keys, admin: testAdmin },
    execLog,
    activity,
    host: fakeHost,
    log: pino({ level: 'silent' }),
    rateLimits: noRateLimits,
    ...options,
    vms,
  });

  async function anonymous(method: string, url: string, payload?: unknown, headers: Record<string, string> = {}) {
    const request = { method, url, headers, ...(payload === undefined ? {} : { payload }) };
    const response = await app.inject(request as InjectOptions);
    return {
      status: response.statusCode,
      text: response.body,
      headers: response.headers,
      json: parse(response.body),
    };
  }

  const call: TestApi['call'] = (method, url, payload, headers = {}) =>
    anonymous(method, url, payload, { 'x-api-key': testKey, ...headers });

  return {
    app,
    vms,
    images,
    keys,
    execLog,
    activity,
    call,
    anonymous,
    async createVm(body = smallVm) {
      const { json } = await call('POST', '/v1/vms', body);
      return json.id;
    },
    [Symbol.asyncDispose]: () => app.close(),
  };
}
