import { type IncomingMessage, request } from 'node:http';
import { buffer } from 'node:stream/consumers';
import { BerthError } from '../common/errors.ts';
import type { Container } from './protocol/guest-api.ts';

const replyTimeoutMs = 30_000;
const maxReplyBytes = 16 * 1024 * 1024;

/** How `docker logs` is asked. */
export interface LogQuery {
  /** Seconds since the epoch; 0 for no bound. */
  readonly since: number;
  readonly until: number;
  readonly follow: boolean;
  readonly timestamps: boolean;
  /** Lines from the end, or `all`. */
  readonly tail: number | 'all';
}

export interface LogStream {
  /** With a terminal there is one stream without frames. */
  readonly tty: boolean;
  readonly stream: IncomingMessage;
}

/** What the agent asks a Docker engine over its unix socket. */
export class Docker {
  readonly #socketPath: string;

  constructor(socketPath: string) {
    this.#socketPath = socketPath;
  }

  /**
   * All containers, those that have ended too.
   * @throws BerthError containers_unavailable
   */
  async list(): Promise<Container[]> {
    const containers = (await this.#json('/containers/json?all=1')) as EngineContainer[];
    return containers.map((each) => ({
      id: each.Id,
      names: each.Names ?? [],
      image: each.Image,
      image_id: each.ImageID,
      created: BigInt(each.Created),
      state: each.State,
      status: each.Status,
    }));
  }

  /**
   * A container's output.
   * @param container name or id, as Docker takes them
   * @throws BerthError container_not_found, containers_unavailable
   */
  async logs(container: string, query: LogQuery): Promise<LogStream> {
    // Docker's own rule for names, which also keeps the path a path.
    if (!/^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,254}$/.test(container)) throw new BerthError('container_not_found');
    const { Config: config } = (await this.#json(`/containers/${container}/json`)) as EngineInspection;
    const parameters = new URLSearchParams({
      stdout: '1',
      stderr: '1',
      follow: query.follow ? '1' : '0',
      timestamps: query.timestamps ? '1' : '0',
      since: String(query.since),
      until: String(query.until),
      tail: String(query.tail),
    });
    return { tty: config?.Tty === true, stream: await this.#open(`/containers/${container}/logs?${parameters}`) };
  }

  async #json(path: string): Promise<unknown> {
    const reply = await this.#open(path);
    let size = 0;
    reply.setTimeout(replyTimeoutMs, () => reply.destroy());
    reply.on('data', (chunk: Buffer) => {
      size += chunk.length;
      if (size > maxReplyBytes) reply.destroy();
    });
    try {
      return JSON.parse((await buffer(reply)).toString('utf8'));
    } catch (error) {
      throw new BerthError('containers_unavailable', {}, error);
    }
  }

  #open(path: string): Promise<IncomingMessage> {
    const { promise, resolve, reject } = Promise.withResolvers<IncomingMessage>();
    const sent = request({ socketPath: this.#socketPath, path, headers: { host: 'docker' }, agent: false });
    sent.setTimeout(replyTimeoutMs, () => sent.destroy(new Error('no reply')));
    sent.on('error', (error) => reject(new BerthError('containers_unavailable', {}, error)));
    sent.on('response', (reply) => {
      sent.setTimeout(0);
      if (reply.statusCode === 200) return resolve(reply);
      reply.destroy();
      reject(
        reply.statusCode === 404
          ? new BerthError('container_not_found')
          : new BerthError('containers_unavailable', {}, new Error(`${path}: ${reply.statusCode}`)),
      );
    });
    sent.end();
    return promise;
  }
}

/** Parts of the engine's own JSON. */
interface EngineContainer {
  readonly Id: string;
  readonly Names: readonly string[] | null;
  readonly Image: string;
  readonly ImageID: string;
  readonly Created: number;
  readonly State: string;
  readonly Status: string;
}

interface EngineInspection {
  readonly Config?: { readonly Tty?: boolean };
}
