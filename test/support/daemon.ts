import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { runCommand } from '../../src/common/command.ts';

const berth = fileURLToPath(new URL('../../bin/berth', import.meta.url));

export interface DaemonOptions {
  /** Further settings, by environment variable name. */
  readonly env?: Readonly<Record<string, string>>;
  /** Data directory to use again; a fresh one by default. */
  readonly home?: string;
}

export interface TestDaemon extends AsyncDisposable {
  /** Of the run dat sheesh API. */
  readonly url: string;
  /** Of each API, by the name of its folder. */
  readonly urls: Readonly<Record<string, string>>;
  readonly apiKey: string;
  readonly home: string;
  readonly pid: number;
  /** What the daemon wrote so far: its log and what it said to the terminal. */
  output(): string;
  /** A call with the API key; JSON bodies are sent as such. */
  call(method: string, path: string, body?: unknown, init?: RequestInit): Promise<Response>;
  /** Resolves when the daemon's process has ended, with its exit code, or null after a signal. */
  readonly ended: Promise<number | null>;
  /** SIGTERM, VMs down, and the data directory removed. */
  stop(): Promise<void>;
  /** SIGKILL, nothing cleaned up. */
  kill(): Promise<void>;
  /** Starts anew on the same data directory; `env` replaces what the first start was given. */
  restart(options?: { readonly env?: Readonly<Record<string, string>> }): Promise<TestDaemon>;
}

/** Fails unless this process is in a network namespace without a way out: tests give addresses to VMs. */
export async function assertPrivateNetwork(): Promise<void> {
  const { stdout } = await runCommand('ip', ['-j', 'route', 'show', 'default']);
  if (stdout.trim() !== '' && JSON.parse(stdout).length > 0)
    throw new Error('run this test in a network namespace of its own: npm test does, or `unshare --net`');
  await runCommand('ip', ['link', 'set', 'lo', 'up']);
}

/** A real daemon process on a data directory of its own, with rate limits off unless set. */
export async function startDaemon(options: DaemonOptions = {}): Promise<TestDaemon> {
  await assertPrivateNetwork();
  const home = options.home ?? (await mkdtemp('/tmp/berth-test-'));
  const env = {
    PATH: process.env.PATH ?? '',
    HOME: process.env.HOME ?? '/root',
    ...(process.env.BERTH_CACHE ? { BERTH_CACHE: process.env.BERTH_CACHE } : {}),
    BERTH_HOME: home,
    BERTH_API_KEY: 'test-key',
    BERTH_LISTEN_RUN_DAT_SHEESH: '127.0.0.1:0',
    BERTH_LISTEN_METALD: '127.0.0.1:0',
    BERTH_NETWORK_RESOLVER: 'false',
    // What goes on beside a test is for the tests that are about it.
    BERTH_TEMPLATE_BUILD: 'false',
    BERTH_TEMPLATE_WAITING: '0',
    ...Object.fromEntries(
      ['CREATE', 'EXEC', 'RUN', 'UPLOAD', 'DOWNLOAD', 'OTHER'].map((name) => [
        `BERTH_RUN_DAT_SHEESH_RATE_${name}`,
        '0',
      ]),
    ),
    ...options.env,
  };
  const child = spawn(berth, ['serve', '--stop-vms'], { env, stdio: ['ignore', 'pipe', 'pipe'] });
  const output = collect(child);
  const ended = once(child, 'exit').then(([code]) => code as number | null);
  const urls = await waitForListeners(home, () => child.exitCode !== null || child.signalCode !== null);
  if (urls === null) throw new Error(`the daemon ended (${await ended}):\n${output()}`);
  const url = urls['run-dat-sheesh']!;
  const daemon: TestDaemon = {
    url,
    urls,
    apiKey: env.BERTH_API_KEY,
    home,
    pid: child.pid!,
    output,
    ended,
    call(method, path, body, init = {}) {
      const headers = new Headers(init.headers);
      headers.set('x-api-key', env.BERTH_API_KEY);
      if (body !== undefined && !headers.has('content-type')) headers.set('content-type', 'application/json');
      const isJson = headers.get('content-type') === 'application/json';
      return fetch(url + path, {
        ...init,
        method,
        headers,
        ...(body === undefined ? {} : { body: isJson ? JSON.stringify(body) : (body as string) }),
      });
    },
    async stop() {
      if (child.exitCode === null && child.signalCode === null) child.kill('SIGTERM');
      await ended;
      await rm(home, { recursive: true, force: true });
    },
    async kill() {
      child.kill('SIGKILL');
      await ended;
    },
    [Symbol.asyncDispose]: () => daemon.stop(),
    async restart(again = {}) {
      // A daemon that was killed leaves the file behind, and it would be taken for the next one's.
      await rm(join(home, 'listeners.json'), { force: true });
      return startDaemon({ home, env: again.env ?? options.env ?? {} });
    },
  };
  return daemon;
}

function collect(child: ChildProcess): () => string {
  const chunks: Buffer[] = [];
  const keep = (chunk: Buffer) => chunks.push(chunk);
  child.stdout?.on('data', keep);
  child.stderr?.on('data', keep);
  return () => Buffer.concat(chunks).toString('utf8');
}

/** The URLs the daemon publishes when it answers; null when it ends before that. */
async function waitForListeners(home: string, hasEnded: () => boolean): Promise<Record<string, string> | null> {
  while (!hasEnded()) {
    const text = await readFile(join(home, 'listeners.json'), 'utf8').catch(() => null);
    if (text !== null) return JSON.parse(text) as Record<string, string>;
    await sleep(20);
  }
  return null;
}
