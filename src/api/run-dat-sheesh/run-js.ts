import type { CommandGuest } from './guest-command.ts';
import { type ProgramOutcome, type Runtime, readRunner, runProgramInGuest } from './program.ts';
import type { RunJsBody } from './schemas.ts';
import type { Limits } from './settings.ts';

const runner = readRunner('node');

/** Runs JavaScript under Node, without Deno's permissions: only the VM's walls count. */
export function runJavaScript(guest: CommandGuest, body: RunJsBody, limits: Limits): Promise<ProgramOutcome> {
  const runtime: Runtime = {
    name: 'node',
    runner,
    flags: () => [...(body.nodeFlags ?? []), '-'],
    env: { NO_COLOR: '1', TERM: 'dumb' },
    snippet: (id) => `.run-js-snippet-${id}`,
  };
  return runProgramInGuest(guest, body, runtime, limits);
}
