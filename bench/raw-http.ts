import { once } from 'node:events';
import { connect, type Socket } from 'node:net';

export interface RawReply {
  /** Status line and headers. */
  readonly head: string;
  readonly body: string;
}

export interface RawCall {
  /** The only status that is an answer; default 200. */
  readonly status?: number;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: string;
}

/**
 * HTTP/1.1 on one connection, one request after another, with hardly anything done per request. Replies must have a
 * Content-Length.
 */
export class RawHttp {
  readonly #stream: Socket;
  #received = Buffer.alloc(0);
  #settle: { status: number; resolve: (reply: RawReply) => void; reject: (error: Error) => void } | null = null;

  private constructor(stream: Socket) {
    this.#stream = stream;
    stream.on('data', (chunk: Buffer) => {
      this.#received = Buffer.concat([this.#received, chunk]);
      this.#take();
    });
    const fail = () => this.#settle?.reject(new Error('the connection ended'));
    stream.on('error', fail).on('close', fail);
  }

  static async connect(url: string): Promise<RawHttp> {
    const { hostname, port } = new URL(url);
    const socket = connect({ host: hostname, port: Number(port), noDelay: true });
    await once(socket, 'connect');
    return new RawHttp(socket);
  }

  /** @returns the body of a reply that has the status */
  async call(method: string, path: string, call: RawCall = {}): Promise<string> {
    return (await this.ask(method, path, call)).body;
  }

  /** The same with the reply's head. */
  ask(method: string, path: string, { status = 200, headers = {}, body = '' }: RawCall): Promise<RawReply> {
    const { promise, resolve, reject } = Promise.withResolvers<RawReply>();
    this.#settle = { status, resolve, reject };
    const lines = Object.entries({
      Host: 'localhost',
      ...(body === '' ? {} : { 'content-type': 'application/json', 'Content-Length': Buffer.byteLength(body) }),
      ...headers,
    }).map(([name, value]) => `${name}: ${value}\r\n`);
    this.#stream.write(`${method} ${path} HTTP/1.1\r\n${lines.join('')}\r\n${body}`);
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
    if (head.startsWith(`HTTP/1.1 ${this.#settle?.status} `)) this.#settle?.resolve({ head, body });
    else this.#settle?.reject(new Error(`${head.split('\r\n', 1)[0]} ${body}`));
  }
}
