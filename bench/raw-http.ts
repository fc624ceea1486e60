import type { Duplex } from 'node:stream';

/**
 * HTTP/1.1 on one connection, one request after another, with hardly anything done per request: for servers at the other end
 * of whatever carries bytes. Replies must have a Content-Length.
 */
export class RawHttp {
  readonly #stream: Duplex;
  #received = Buffer.alloc(0);
  #settle: { resolve: (body: string) => void; reject: (error: Error) => void } | null = null;

  constructor(stream: Duplex) {
    this.#stream = stream;
    stream.on('data', (chunk: Buffer) => {
      this.#received = Buffer.concat([this.#received, chunk]);
      this.#take();
    });
    const fail = () => this.#settle?.reject(new Error('the connection ended'));
    stream.on('error', fail).on('close', fail);
  }

  /** @returns the body of a reply with status 200 */
  post(path: string, body: string): Promise<string> {
    const { promise, resolve, reject } = Promise.withResolvers<string>();
    this.#settle = { resolve, reject };
    const headers = `Host: vm\r\nContent-Type: application/json\r\nContent-Length: ${Buffer.byteLength(body)}`;
    this.#stream.write(`POST ${path} HTTP/1.1\r\n${headers}\r\n\r\n${body}`);
    return promise;
  }

  close(): void {
    this.#stream.destroy();
  }

  #take(): void {
    const end = this.#received.indexOf('\r\n\r\n');
    if (end < 0) return;
    const head = this.#received.toString('latin1', 0, end);
    const length = Number(/\r\ncontent-length: (\d+)/i.exec(head)?.[1]);
    const whole = end + 4 + length;
    if (this.#received.length < whole) return;
    const body = this.#received.toString('utf8', end + 4, whole);
    this.#received = this.#received.subarray(whole);
    if (head.startsWith('HTTP/1.1 200 ')) this.#settle?.resolve(body);
    else this.#settle?.reject(new Error(head.split('\r\n', 1)[0]));
  }
}
