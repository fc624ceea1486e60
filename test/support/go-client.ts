/** The client in Go (test/go-client), built as its users would build theirs: by protoc and Go's own plugins. */

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, mkdtemp, rm, symlink } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { runCommand } from '../../src/common/command.ts';

const root = fileURLToPath(new URL('../..', import.meta.url));

/** The generated package's name, in each plugin's words. */
const packageOf = 'Mvmprovisioner/v1/vm.proto=berth.example/vmprovisionerv1';

/** The first build on a machine compiles gRPC's library. */
const buildTimeoutMs = 240_000;

export interface GoOrder {
  /** A method of the service, or `Reflect`. */
  readonly call: string;
  /** In protobuf's JSON. */
  readonly request?: object;
  readonly metadata?: Readonly<Record<string, string>>;
  readonly timeout_ms?: number;
}

export interface GoOutcome {
  /** In protobuf's JSON with the names of the proto; 64-bit numbers are texts. */
  // biome-ignore lint/suspicious/noExplicitAny: replies are asserted on, not typed.
  readonly reply?: any;
  readonly error?: {
    readonly code: string;
    readonly message: string;
    readonly reason?: string;
    readonly domain?: string;
    readonly metadata?: Readonly<Record<string, string>>;
  };
  /** Whether the reply came compressed. */
  readonly packed: boolean;
  /** `HTTP/1.1`, `HTTP/2.0`. */
  readonly proto?: string;
}

export interface GoClient extends AsyncDisposable {
  call(order: GoOrder): Promise<GoOutcome>;
}

export interface GoClientOptions {
  /** The daemon's, of the metald API. */
  readonly url: string;
  readonly protocol: 'grpc' | 'connect' | 'connect+json';
  readonly gzip?: boolean;
  /** PEM file of the certificate to trust, for an https URL. */
  readonly ca?: string;
}

/** Every way in which the client speaks. */
export const goVariants: readonly Omit<GoClientOptions, 'url'>[] = (
  ['grpc', 'connect', 'connect+json'] as const
).flatMap((protocol) => [{ protocol }, { protocol, gzip: true }]);

export interface GoProgram extends AsyncDisposable {
  start(options: GoClientOptions): GoClient;
}

/** Generates and builds the client. */
export async function buildGoClient(): Promise<GoProgram> {
  const directory = await mkdtemp(join(tmpdir(), 'berth-go-'));
  const sources = join(directory, 'src');
  await mkdir(join(sources, 'berth.example'), { recursive: true });
  await symlink(join(root, 'test/go-client'), join(sources, 'berth.example/client'));
  const plugins = ['go', 'go-grpc'].flatMap((name) => [`--${name}_out=${sources}`, `--${name}_opt=${packageOf}`]);
  await runCommand('protoc', ['-I', join(root, 'proto'), ...plugins, 'vmprovisioner/v1/vm.proto']);
  const program = join(directory, 'client');
  // Debian has Go's libraries as sources, in a tree of the form from before modules.
  const env = { ...process.env, GO111MODULE: 'off', GOPATH: `${directory}:/usr/share/gocode` };
  await runCommand('go', ['build', '-o', program, 'berth.example/client'], { env, timeoutMs: buildTimeoutMs });
  return {
    start: (options) => startClient(program, options),
    [Symbol.asyncDispose]: () => rm(directory, { recursive: true }),
  };
}

function startClient(program: string, { url, protocol, gzip, ca }: GoClientOptions): GoClient {
  const flags = ['-target', new URL(url).host, '-protocol', protocol];
  if (gzip) flags.push('-gzip');
  if (ca !== undefined) flags.push('-ca', ca);
  const child = spawn(program, flags, { stdio: ['pipe', 'pipe', 'inherit'] });
  const ended = once(child, 'exit');
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  return {
    async call(order) {
      child.stdin.write(`${JSON.stringify({ request: {}, ...order })}\n`);
      const { value, done } = await lines.next();
      if (done) throw new Error('the Go client ended');
      return JSON.parse(value) as GoOutcome;
    },
    async [Symbol.asyncDispose]() {
      child.stdin.end();
      await ended;
    },
  };
}
