import { spawn } from 'node:child_process';
import { join } from 'node:path';
import type { GuestExec, GuestExecExit, GuestExecRequest } from '../../../guest/guest.ts';
import { workspace } from '../workspace-path.ts';
import { FakeGuest } from './fake-guest.ts';

const programs = join(import.meta.dirname, '../../../../node_modules/.bin');

/**
 * Runs commands on this machine instead of in a VM, with a directory in the place of /workspace, so that shells and
 * runtimes can be tested for real. Users and time limits are not imitated.
 */
export class LocalGuest extends FakeGuest {
  readonly #directory: string;

  constructor(directory: string) {
    super();
    this.#directory = directory;
  }

  override exec(request: GuestExecRequest): GuestExec {
    const local = (text: string): string => text.replaceAll(workspace, this.#directory);
    const [program, ...args] = request.argv.map(local) as [string, ...string[]];
    const started = performance.now();
    const child = spawn(program, args, {
      cwd: request.cwd,
      env: {
        ...request.env,
        PATH: `${programs}:${request.env.PATH}`,
        HOME: this.#directory,
        ...('DENO_DIR' in request.env ? { DENO_DIR: join(this.#directory, '../deno') } : {}),
      },
    });
    const { stdin } = child;
    const end = stdin.end.bind(stdin) as (text: string) => typeof stdin;
    stdin.end = ((text: string) => end(local(text))) as typeof stdin.end;
    if (request.stdin !== true) end('');
    const { promise, resolve, reject } = Promise.withResolvers<GuestExecExit>();
    child.on('error', reject);
    child.on('close', (exitCode, signal) => {
      const durationMicros = Math.round((performance.now() - started) * 1000);
      resolve({ exitCode, signal: signal === null ? null : 9, timedOut: false, durationMicros });
    });
    return {
      stdin,
      stdout: child.stdout,
      stderr: child.stderr,
      exit: promise,
      resize: () => {},
      kill: () => child.kill('SIGKILL'),
    };
  }
}
