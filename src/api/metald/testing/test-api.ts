import type { AddressInfo } from 'node:net';
import { pino } from 'pino';
import type { Quotas } from '../../../vm/quotas.ts';
import { Vms } from '../../../vm/service.ts';
import { FakeHost } from '../../../vm/testing/fake-host.ts';
import { createMetaldApi, type MetaldOptions } from '../plugin.ts';
import type { CustomerToken } from '../ports.ts';
import type { MetaldSettings } from '../service.ts';

export interface TestApiOptions extends Partial<Omit<MetaldOptions, 'settings' | 'auth'>> {
  readonly settings?: Partial<MetaldSettings>;
  readonly auth?: Partial<MetaldOptions['auth']>;
  readonly quotas?: Partial<Quotas>;
}

export interface TestApi extends AsyncDisposable {
  readonly url: string;
  readonly host: FakeHost;
  readonly vms: Vms;
  /** Tokens there are, by id. */
  readonly tokens: Map<string, CustomerToken>;
  /** A unary call by Connect in JSON, as customer `a` unless headers say otherwise. */
  call(name: string, body: unknown, headers?: Record<string, string>): Promise<{ status: number; json: Json }>;
}

// biome-ignore lint/suspicious/noExplicitAny: replies are asserted on, not typed.
export type Json = any;

/** A configuration that is complete: the fake host has one image, of any name. */
export const smallConfig = {
  cpu: { vcpu_count: 1 },
  memory: { size_bytes: 128 * 1024 * 1024 },
  boot: { kernel_path: 'image:test' },
};

/** The API on a port of its own, before the real VM service on a host whose VMs are names. */
export async function openTestApi(options: TestApiOptions = {}): Promise<TestApi> {
  const { settings, auth, quotas, ...more } = options;
  const host = await FakeHost.create();
  const dependencies = host.dependencies(quotas);
  const vms = await Vms.open(dependencies);
  const tokens = new Map<string, CustomerToken>();
  const api = await createMetaldApi({
    vms,
    images: dependencies.images,
    network: { gateway4: '172.16.0.1', gateway6: 'fd00::1', nameservers: ['172.16.0.1'] },
    auth: { development: true, tokens: { find: async (id) => tokens.get(id) ?? null }, jwt: null, ...auth },
    settings: { allowIps: [], loadScriptRules: false, hideForeignVms: false, unsupported: 'refuse', ...settings },
    style: 'spec',
    reflection: false,
    metricsDetail: 'full',
    health: { checks: [], backendCheck: 'backend_ping' },
    tracesUrl: null,
    certificateFiles: null,
    maxConnections: 100,
    backend: 'fake',
    version: '0.0.0',
    log: pino({ level: 'silent' }),
    ...more,
  });
  await new Promise<void>((resolve) => api.server.listen(0, '127.0.0.1', resolve));
  const url = `${more.certificateFiles ? 'https' : 'http'}://127.0.0.1:${(api.server.address() as AddressInfo).port}`;
  return {
    url,
    host,
    vms,
    tokens,
    async call(name, body, headers = {}) {
      const response = await fetch(`${url}/vmprovisioner.v1.VmService/${name}`, {
        method: 'POST',
        headers: { 'content-type': 'application/json', authorization: 'Bearer dev_customer_a', ...headers },
        body: typeof body === 'string' ? body : JSON.stringify(body),
      });
      const text = await response.text();
      return { status: response.status, json: text === '' ? null : JSON.parse(text) };
    },
    async [Symbol.asyncDispose]() {
      api.closeAllConnections();
      await api.close();
      await vms.close();
      await host.remove();
    },
  };
}
