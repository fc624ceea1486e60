import { type ChildProcess, spawn } from 'node:child_process';
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { Serial } from '../common/concurrency.ts';
import { writeFileAtomic } from '../common/files.ts';
import type { Log } from '../common/log.ts';
import { hostToolEnv } from './host-tool.ts';
import { endProcess, findProcesses } from './resolver-process.ts';

export interface ResolverOptions {
  /** Addresses on the bridge to answer at. */
  readonly listen: readonly string[];
  /** Servers to ask; null: those of the host's /etc/resolv.conf, read again when it changes. */
  readonly upstream: readonly string[] | null;
  /** Where its configuration goes; what tells this daemon's resolver from any other. */
  readonly stateDir: string;
  readonly log: Log;
}

const startTimeoutMs = 10_000;
const firstRetryMs = 1000;
const longestRetryMs = 60_000;

/**
 * The guests' resolver: a dnsmasq that survives the daemon and is replaced by the next one, never doubled. Who may ask is
 * the packet filter's business.
 */
export class Resolver {
  readonly #options: ResolverOptions;
  readonly #configPath: string;
  readonly #argv: readonly string[];
  #child: ChildProcess | null = null;
  #retry: NodeJS.Timeout | null = null;
  #retryMs = firstRetryMs;
  readonly #serial = new Serial<'process'>();

  constructor(options: ResolverOptions) {
    this.#options = options;
    this.#configPath = join(options.stateDir, 'resolver.conf');
    this.#argv = ['dnsmasq', '--keep-in-foreground', `--conf-file=${this.#configPath}`];
  }

  /** Starts it unless it runs, or is about to be tried again after it died. Resolves when it answers. */
  start(): Promise<void> {
    return this.#serial.run('process', async () => {
      if (this.#child !== null || this.#retry !== null) return;
      await this.#replace();
    });
  }

  /** Ends it, and any that an earlier daemon left behind. */
  stop(): Promise<void> {
    return this.#serial.run('process', async () => {
      this.#forget();
      await this.#endAll();
    });
  }

  /** Leaves it running, on its own. */
  release(): Promise<void> {
    return this.#serial.run('process', async () => {
      const child = this.#child;
      this.#forget();
      child?.stderr?.destroy();
      child?.unref();
    });
  }

  #forget(): void {
    this.#child = null;
    if (this.#retry !== null) clearTimeout(this.#retry);
    this.#retry = null;
  }

  async #endAll(): Promise<void> {
    for (const pid of await findProcesses(this.#argv)) await endProcess(pid, this.#argv);
  }

  async #replace(): Promise<void> {
    await mkdir(this.#options.stateDir, { recursive: true, mode: 0o700 });
    await writeFileAtomic(this.#configPath, dnsmasqConfig(this.#options));
    await this.#endAll();
    const [command = '', ...args] = this.#argv;
    // In its own session: signals to the daemon's terminal are not for it.
    const child = spawn(command, args, { detached: true, stdio: ['ignore', 'ignore', 'pipe'], env: hostToolEnv() });
    await started(child, this.#options.log);
    this.#child = child;
    const since = Date.now();
    child.once('exit', (code, signal) => this.#ended(child, `exit ${code ?? signal}`, Date.now() - since));
    // It may have ended between its last line and now, in which case `exit` has been told to nobody.
    if (child.exitCode !== null || child.signalCode !== null) this.#ended(child, 'exited at once', 0);
  }

  #ended(child: ChildProcess, how: string, livedMs: number): void {
    if (this.#child !== child) return;
    this.#child = null;
    if (livedMs > longestRetryMs) this.#retryMs = firstRetryMs;
    this.#tryAgain(new Error(`dnsmasq ended: ${how}`));
  }

  #tryAgain(reason: unknown): void {
    this.#options.log.warn({ err: reason, retryMs: this.#retryMs }, 'the resolver is down');
    const retry = setTimeout(() => this.#serial.run('process', () => this.#tryOnce(retry)), this.#retryMs);
    retry.unref();
    this.#retry = retry;
    this.#retryMs = Math.min(this.#retryMs * 2, longestRetryMs);
  }

  async #tryOnce(retry: NodeJS.Timeout): Promise<void> {
    // Stopped, or let go, while the attempt waited for its turn.
    if (this.#retry !== retry) return;
    this.#retry = null;
    try {
      await this.#replace();
    } catch (error) {
      this.#tryAgain(error);
    }
  }
}

/** Resolves when dnsmasq has bound its sockets; rejects, with what it said, when it ends before. */
function started(child: ChildProcess, log: Log): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  const said: string[] = [];
  const fail = (reason: string): void => reject(new Error(`dnsmasq ${reason}: ${said.join('; ')}`));
  const timer = setTimeout(() => {
    child.kill('SIGKILL');
    fail('did not start in time');
  }, startTimeoutMs);
  const settle = (): void => clearTimeout(timer);
  promise.then(settle, settle);
  child.once('error', reject);
  child.once('close', (code) => fail(`ended with ${code}`));
  const { stderr } = child;
  if (stderr === null) throw new Error('dnsmasq has no standard error');
  // The pipe breaks when the resolver is let go or killed.
  stderr.on('error', (error) => log.debug({ err: error }, 'resolver output lost'));
  createInterface({ input: stderr }).on('line', (line) => {
    log.debug({ line: line.slice(0, 500) }, 'resolver');
    if (said.length < 20) said.push(line.slice(0, 500));
    if (/: started, version /.test(line)) resolve();
  });
  return promise;
}

function dnsmasqConfig(options: ResolverOptions): string {
  return [
    'port=53',
    'bind-interfaces',
    ...options.listen.map((address) => `listen-address=${address}`),
    'user=nobody',
    'group=nogroup',
    'pid-file=',
    'log-facility=-',
    // Names in the host's files are the host's business.
    'no-hosts',
    'cache-size=1000',
    // A question waits for ten seconds at most; each VM has a pace for its own.
    'dns-forward-max=1000',
    ...(options.upstream === null ? [] : ['no-resolv', ...options.upstream.map((server) => `server=${server}`)]),
    '',
  ].join('\n');
}
