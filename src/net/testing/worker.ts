/**
 * The process that the end-to-end test runs in each of its network namespaces: servers, probes and, in the one that is
 * the host, the networks under test. Speaks over Node's IPC channel.
 */

import { createSocket, type RemoteInfo } from 'node:dgram';
import { Resolver as DnsClient } from 'node:dns/promises';
import { once } from 'node:events';
import { connect, createServer, type Socket } from 'node:net';
import { pino } from 'pino';
import { BerthError } from '../../common/errors.ts';
import { type BridgeNetworkOptions, createBridgeNetwork } from '../bridge-network.ts';
import type { Network, Traffic } from '../network.ts';
import { findProcesses } from '../resolver-process.ts';

export type Probe = 'open' | 'refused' | 'blocked';
type NetworkMethod = Exclude<keyof Network, 'plan' | 'nic'>;

const probeMs = 600;
const networks = new Map<string, Network>();
const held = new Map<string, Socket>();
const received: string[] = [];

export const operations = {
  /** TCP servers that say who connected, then echo; UDP servers that note and echo. */
  async serve(port: number): Promise<void> {
    const tcp = createServer((socket) => {
      socket.on('error', () => socket.destroy());
      socket.write(`${socket.remoteAddress}\n`);
      socket.pipe(socket);
    });
    await listening((done) => tcp.listen(port, '::', done));
    const udp = createSocket('udp6', (message, from) => {
      received.push(message.toString());
      udp.send(message, from.port, from.address);
    });
    await listening((done) => udp.bind(port, '::', done));
  },

  /** A name server that answers every question for an address with 192.0.2.7. */
  async serveDns(): Promise<void> {
    const udp = createSocket('udp4', (query: Buffer, from: RemoteInfo) => {
      const question = query.subarray(12, query.indexOf(0, 12) + 5);
      const header = Buffer.from([...query.subarray(0, 2), 0x81, 0x80, 0, 1, 0, 1, 0, 0, 0, 0]);
      const answer = Buffer.from([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4, 192, 0, 2, 7]);
      udp.send(Buffer.concat([header, question, answer]), from.port, from.address);
    });
    await listening((done) => udp.bind(53, '0.0.0.0', done));
  },

  tcp(host: string, port: number): Promise<Probe> {
    const { promise, resolve } = Promise.withResolvers<Probe>();
    const socket = connect({ host, port });
    const timer = setTimeout(() => resolve('blocked'), probeMs);
    socket.on('connect', () => resolve('open'));
    socket.on('error', (error: NodeJS.ErrnoException) =>
      resolve(error.code === 'ECONNREFUSED' ? 'refused' : 'blocked'),
    );
    return promise.finally(() => {
      clearTimeout(timer);
      socket.destroy();
    });
  },

  /** Sends a datagram from `source` and says whether the echo came. */
  udp(host: string, port: number, message: string, source?: string): Promise<Probe> {
    const { promise, resolve } = Promise.withResolvers<Probe>();
    const socket = createSocket(host.includes(':') ? 'udp6' : 'udp4', () => resolve('open'));
    const timer = setTimeout(() => resolve('blocked'), probeMs);
    socket.on('error', () => resolve('refused'));
    socket.bind(0, source, () => socket.send(message, port, host));
    return promise.finally(() => {
      clearTimeout(timer);
      socket.close();
    });
  },

  /** A TCP server that takes what is sent to the end and says so, and one on the next port that sends `bytes`. */
  async serveBulk(port: number, bytes: number): Promise<void> {
    const sink = createServer({ allowHalfOpen: true }, (socket) => {
      socket.on('error', () => socket.destroy());
      socket.on('end', () => socket.end('done'));
      socket.resume();
    });
    await listening((done) => sink.listen(port, '::', done));
    const source = createServer((socket) => {
      socket.on('error', () => socket.destroy());
      socket.end(Buffer.alloc(bytes));
    });
    await listening((done) => source.listen(port + 1, '::', done));
  },

  /** Milliseconds it takes to send `bytes` to a sink and to hear that they came. */
  async push(host: string, port: number, bytes: number): Promise<number> {
    const started = performance.now();
    const socket = connect({ host, port, allowHalfOpen: true });
    socket.end(Buffer.alloc(bytes));
    const [answer] = await once(socket, 'data');
    if (String(answer) !== 'done') throw new Error('the sink did not take everything');
    return performance.now() - started;
  },

  /** Milliseconds it takes to receive everything a source sends, and how much that was. */
  async pull(host: string, port: number): Promise<{ readonly ms: number; readonly bytes: number }> {
    const started = performance.now();
    let bytes = 0;
    for await (const chunk of connect({ host, port })) bytes += (chunk as Buffer).length;
    return { ms: performance.now() - started, bytes };
  },

  /** Datagrams that came to the UDP server. */
  async received(): Promise<readonly string[]> {
    return received;
  },

  /** The first address of a name, or the error's code. */
  async resolve(server: string): Promise<string> {
    const client = new DnsClient({ timeout: probeMs, tries: 1 });
    client.setServers([server]);
    try {
      return (await client.resolve4('name.example'))[0] ?? 'nothing';
    } catch (error) {
      return (error as NodeJS.ErrnoException).code ?? 'unknown';
    }
  },

  /** Opens a connection that stays; returns what address the server sees. */
  async hold(name: string, host: string, port: number): Promise<string> {
    const socket = connect({ host, port });
    held.set(name, socket);
    return (await nextData(socket)).trim();
  },

  /** Whether a held connection still carries data both ways. */
  async echo(name: string, text: string): Promise<boolean> {
    const socket = held.get(name);
    if (socket === undefined) throw new Error(`no connection ${name}`);
    socket.write(text);
    return (await nextData(socket)) === text;
  },

  async network(name: string, options: Omit<BridgeNetworkOptions, 'log'>): Promise<void> {
    networks.set(
      name,
      createBridgeNetwork({ ...options, log: pino({ level: process.env.BERTH_TEST_LOG ?? 'silent' }) }),
    );
  },

  /** Calls a method of a network; a failure comes back as its catalogue code. */
  async call(name: string, method: NetworkMethod, ...args: readonly unknown[]): Promise<unknown> {
    const network = networks.get(name);
    if (network === undefined) throw new Error(`no network ${name}`);
    try {
      return await (network[method] as (...args: readonly unknown[]) => Promise<unknown>).call(network, ...args);
    } catch (error) {
      if (error instanceof BerthError) return error.code;
      throw error;
    }
  },

  async traffic(name: string, tap: string): Promise<Traffic> {
    const traffic = (await networks.get(name)?.traffic([tap]))?.get(tap);
    if (traffic === undefined) throw new Error(`no traffic of ${tap}`);
    return traffic;
  },

  findProcesses,
};

export type Operations = typeof operations;

function listening(start: (done: () => void) => void): Promise<void> {
  return new Promise((resolve) => start(resolve));
}

function nextData(socket: Socket): Promise<string> {
  const { promise, resolve, reject } = Promise.withResolvers<string>();
  const timer = setTimeout(() => reject(new Error('no data came')), 2000);
  socket.once('error', reject);
  socket.once('data', (data) => resolve(data.toString()));
  return promise.finally(() => {
    clearTimeout(timer);
    socket.off('error', reject);
  });
}

interface Request {
  readonly id: number;
  readonly operation: keyof Operations;
  readonly args: readonly unknown[];
}

process.on('message', ({ id, operation, args }: Request) => {
  const run = operations[operation] as (...args: readonly unknown[]) => Promise<unknown>;
  run(...args).then(
    (result) => process.send?.({ id, result }),
    (error: Error) => process.send?.({ id, error: error.stack }),
  );
});
process.on('disconnect', () => process.exit());
