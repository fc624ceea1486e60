import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';

/** A real Prometheus that scrapes one target every second. */
export interface Prometheus extends AsyncDisposable {
  /** Whether the last scrape was understood as a whole. */
  targetIsUp(): Promise<boolean>;
  /** Values of the series that a query finds now; NaN is left out, as a chart would. */
  query(expression: string): Promise<readonly number[]>;
}

interface QueryReply {
  readonly status: string;
  readonly error?: string;
  readonly data: { readonly result: readonly { readonly value: readonly [number, string] }[] };
}

/** Starts Debian's Prometheus on `127.0.0.1:port`; `target` is host:port. */
export async function startPrometheus(target: string, port: number): Promise<Prometheus> {
  const directory = await mkdtemp('/tmp/berth-prometheus-');
  const config = join(directory, 'prometheus.yml');
  await writeFile(
    config,
    JSON.stringify({
      global: { scrape_interval: '1s', scrape_timeout: '1s' },
      scrape_configs: [{ job_name: 'berth', static_configs: [{ targets: [target] }] }],
    }),
  );
  const child: ChildProcess = spawn(
    'prometheus',
    [
      `--config.file=${config}`,
      `--storage.tsdb.path=${join(directory, 'data')}`,
      `--web.listen-address=127.0.0.1:${port}`,
      '--log.level=warn',
    ],
    { stdio: ['ignore', 'ignore', 'inherit'] },
  );
  const ended = once(child, 'exit');
  const url = `http://127.0.0.1:${port}/api/v1`;
  return {
    async targetIsUp() {
      try {
        const { data } = (await (await fetch(`${url}/targets`)).json()) as {
          data: { activeTargets: { health: string }[] };
        };
        return data.activeTargets.length > 0 && data.activeTargets.every(({ health }) => health === 'up');
      } catch {
        return false;
      }
    },
    async query(expression) {
      const reply = (await (await fetch(`${url}/query?query=${encodeURIComponent(expression)}`)).json()) as QueryReply;
      if (reply.status !== 'success') throw new Error(`${expression}: ${reply.error}`);
      return reply.data.result.map(({ value }) => Number(value[1])).filter((value) => !Number.isNaN(value));
    },
    async [Symbol.asyncDispose]() {
      child.kill('SIGTERM');
      await ended;
      await rm(directory, { recursive: true, force: true });
    },
  };
}
