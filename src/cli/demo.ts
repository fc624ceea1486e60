import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { z } from 'zod';
import { startDaemon } from '../daemon/daemon.ts';
import type { Config } from '../daemon/settings.ts';

interface Timing {
  readonly name: string;
  readonly ms: number;
}

const setUpSchema = z.array(z.object({ step: z.string(), seconds: z.number() }));

const program = `const primes: number[] = [];
for (let n = 2; primes.length < 10; n++) if (primes.every((prime) => n % prime !== 0)) primes.push(n);
console.log('TypeScript on Deno', Deno.version.deno);
result.set({ primes });`;

/**
 * The main job, once: a daemon on a temporary data directory, a VM, a shell command and a TypeScript program in it, all
 * through the HTTP API. The VM has no network, so the host's is not touched; nothing is left behind but the image cache.
 */
export async function demo(config: Config): Promise<void> {
  const timings: Timing[] = [...setUpTimings()];
  const home = await mkdtemp(join(tmpdir(), 'berth-'));
  const timed = async <T>(name: string, task: () => Promise<T>): Promise<T> => {
    process.stdout.write(`${name} …`);
    const started = performance.now();
    const value = await task();
    const ms = performance.now() - started;
    timings.push({ name, ms });
    process.stdout.write(` ${seconds(ms)}\n`);
    return value;
  };
  try {
    const daemon = await timed('Starting the daemon', () =>
      startDaemon(
        {
          ...config,
          home,
          'network.mode': 'user',
          // One VM is all there will be.
          'template.build': false,
          'log.level': 'warn',
          'listen.run_dat_sheesh': '127.0.0.1:0',
          'listen.metald': '127.0.0.1:0',
        },
        { announce: () => {} },
      ),
    );
    try {
      const url = daemon.urls['run-dat-sheesh']!;
      const call = async (method: string, path: string, body?: unknown) => {
        const response = await fetch(url + path, {
          method,
          headers: { 'x-api-key': daemon.apiKey, ...(body ? { 'content-type': 'application/json' } : {}) },
          ...(body ? { body: JSON.stringify(body) } : {}),
        });
        const text = await response.text();
        if (!response.ok) throw new Error(`${method} ${path}: ${response.status} ${text}`);
        return text === '' ? null : JSON.parse(text);
      };
      const vm = await timed('Booting a VM', () => call('POST', '/v1/vms', { cpu: 1, memMb: 512, allowIps: [] }));
      const shell = await timed('Running a shell command', () =>
        call('POST', `/v1/vms/${vm.id}/exec`, {
          cmd: 'echo "hello from $(hostname), kernel $(uname -r), uid $(id -u)"',
        }),
      );
      process.stdout.write(indent(shell.stdout));
      const run = await timed('Running a TypeScript program', () =>
        call('POST', `/v1/vms/${vm.id}/run-ts`, { code: program, timeoutMs: 120_000 }),
      );
      process.stdout.write(indent(`${run.stdout}result: ${JSON.stringify(run.result)}\n`));
      if (shell.exitCode !== 0 || run.exitCode !== 0 || run.result?.primes?.length !== 10)
        throw new Error(`the program did not do what it should: ${JSON.stringify({ shell, run })}`);
      await timed('Removing the VM', () => call('DELETE', `/v1/vms/${vm.id}`));
    } finally {
      await daemon.stop({ stopVms: true });
    }
  } finally {
    await rm(home, { recursive: true, force: true });
  }
  printTable(timings);
  console.log('\nNext: npm start runs the daemon; README.md shows the calls.');
}

/** What set-up took before this program ran: the script that did it hands the times on in the environment. */
function setUpTimings(): readonly Timing[] {
  const parsed = setUpSchema.parse(JSON.parse(process.env.BERTH_SETUP_TIMINGS || '[]'));
  return parsed.map(({ step, seconds: taken }) => ({ name: `Set-up: ${step}`, ms: taken * 1000 }));
}

function printTable(timings: readonly Timing[]): void {
  const width = Math.max(...timings.map((timing) => timing.name.length));
  console.log(`\n${'Step'.padEnd(width)}      Time`);
  for (const { name, ms } of timings) console.log(`${name.padEnd(width)}  ${seconds(ms).padStart(8)}`);
}

function seconds(ms: number): string {
  return `${(ms / 1000).toFixed(2)} s`;
}

function indent(text: string): string {
  return text.replace(/^(?=.)/gm, '    ');
}
