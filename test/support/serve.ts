import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { eventually } from './eventually.ts';

const berth = fileURLToPath(new URL('../../bin/berth', import.meta.url));

/** A command of `berth` that was started. */
export interface RunningBerth {
  /** What it wrote to standard output so far. */
  stdout(): string;
  stderr(): string;
  /** Exit code once it has ended, null after a signal. */
  readonly ended: Promise<number | null>;
  /** SIGTERM unless it has ended already; resolves when it has. */
  stop(): Promise<number | null>;
}

export interface Outcome {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** Starts `bin/berth` with these arguments; of the tests' own environment it gets the image cache alone. */
export function startBerth(args: readonly string[], env: Readonly<Record<string, string>>): RunningBerth {
  const child = spawn(berth, args, {
    env: {
      PATH: process.env.PATH ?? '',
      HOME: process.env.HOME ?? '/root',
      ...(process.env.BERTH_CACHE ? { BERTH_CACHE: process.env.BERTH_CACHE } : {}),
      ...env,
    },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let stdout = '';
  let stderr = '';
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    stdout += text;
  });
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    stderr += text;
  });
  const ended = once(child, 'close').then(([code]) => code as number | null);
  return {
    stdout: () => stdout,
    stderr: () => stderr,
    ended,
    stop() {
      if (child.exitCode === null && child.signalCode === null) child.kill('SIGTERM');
      return ended;
    },
  };
}

/** Runs `bin/berth` to its end. */
export async function runBerth(args: readonly string[], env: Readonly<Record<string, string>>): Promise<Outcome> {
  const running = startBerth(args, env);
  const code = await running.ended;
  return { code, stdout: running.stdout(), stderr: running.stderr() };
}

/** Starts `berth serve` and waits for the line it prints last, about its API key. */
export async function startServe(
  env: Readonly<Record<string, string>>,
  args: readonly string[] = [],
): Promise<RunningBerth> {
  const running = startBerth(['serve', ...args], env);
  let code: number | null | undefined;
  running.ended.then((value) => {
    code = value;
  });
  await eventually(`berth serve is ready: ${running.stderr()}`, async () => {
    if (code !== undefined) throw new Error(`berth serve ended (${code}): ${running.stderr()}`);
    return running.stdout().includes('API key: ');
  });
  return running;
}
