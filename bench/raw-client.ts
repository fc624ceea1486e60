import { smallVm, type WireVm } from '../test/support/api.ts';
import type { TestDaemon } from '../test/support/daemon.ts';
import { RawHttp } from './raw-http.ts';

/** A client of the run dat sheesh API that adds as little as can be to what the daemon takes. */
export class RawClient implements Disposable {
  readonly #http: RawHttp;
  readonly #headers: Readonly<Record<string, string>>;

  private constructor(http: RawHttp, apiKey: string) {
    this.#http = http;
    this.#headers = { 'X-API-Key': apiKey };
  }

  static async connect({ url, apiKey }: TestDaemon): Promise<RawClient> {
    return new RawClient(await RawHttp.connect(url), apiKey);
  }

  /** A small VM, from the request to the end of its reply. */
  async create(): Promise<{ readonly vm: WireVm; readonly ms: number }> {
    const started = performance.now();
    const body = await this.#http.call('POST', '/v1/vms', {
      status: 201,
      headers: this.#headers,
      body: JSON.stringify(smallVm),
    });
    const ms = performance.now() - started;
    return { vm: JSON.parse(body) as WireVm, ms };
  }

  /** A command that needs nothing; says what the guest took for it, in milliseconds. */
  async runTrue(id: string): Promise<{ readonly guestMs: number }> {
    const { head } = await this.#http.ask('POST', `/v1/vms/${id}/exec`, {
      headers: this.#headers,
      body: '{"cmd":"true"}',
    });
    const guestMs = Number(/\r\nserver-timing: guest;dur=([\d.]+)/i.exec(head)?.[1]);
    if (Number.isNaN(guestMs)) throw new Error('the reply does not say what the guest took');
    return { guestMs };
  }

  /** The smallest call, in milliseconds. */
  async smallest(): Promise<number> {
    const started = performance.now();
    await this.#http.call('GET', '/v1/vms', { headers: this.#headers });
    return performance.now() - started;
  }

  [Symbol.dispose](): void {
    this.#http.close();
  }
}
