import { stripVTControlCharacters } from 'node:util';
import type { CommandGuest } from './guest-command.ts';
import { type ProgramOutcome, type Runtime, readRunner, runProgramInGuest } from './program.ts';
import type { RunTsBody } from './schemas.ts';
import type { Limits } from './settings.ts';

const readable = [
  '/workspace',
  '/tmp',
  '/var/tmp',
  '/etc/resolv.conf',
  '/etc/hosts',
  '/etc/nsswitch.conf',
  '/etc/ssl/certs/ca-certificates.crt',
].join(',');

const environment = Object.freeze({
  // On the disk, so that downloaded modules survive a restart, and out of the workspace.
  DENO_DIR: '/var/tmp/.deno',
  DENO_NO_PROMPT: '1',
  DENO_NO_UPDATE_CHECK: '1',
  NO_COLOR: '1',
  TERM: 'dumb',
});

const runner = readRunner('deno');

/** The original's permissions: files of the workspace, the given variables, and the network when the VM has one. */
export function denoFlags(
  callerFlags: readonly string[],
  callerEnv: Readonly<Record<string, string>>,
  network: boolean,
): readonly string[] {
  const names = Object.keys(callerEnv);
  const permissions = [
    `--allow-read=${readable}`,
    '--allow-write=/workspace,/tmp,/var/tmp',
    names.length === 0 ? '--allow-env' : `--allow-env=${names.join(',')}`,
    ...(network ? ['--allow-net'] : []),
  ];
  // Deno refuses --allow-all beside narrower permissions, which it includes.
  const all = callerFlags.includes('--allow-all') || callerFlags.includes('-A');
  return ['run', '--quiet', ...(all ? [] : permissions), ...callerFlags, '-'];
}

/** Runs TypeScript under Deno. Colours are taken out of the output. */
export async function runTypeScript(
  guest: CommandGuest,
  body: RunTsBody,
  network: boolean,
  limits: Limits,
): Promise<ProgramOutcome> {
  const runtime: Runtime = {
    name: 'deno',
    runner,
    flags: (callerEnv) => denoFlags(body.denoFlags ?? [], callerEnv, network),
    env: environment,
    snippet: (id) => `.run-ts-snippet-${id}.ts`,
  };
  const outcome = await runProgramInGuest(guest, body, runtime, limits);
  return {
    ...outcome,
    stdout: stripVTControlCharacters(outcome.stdout),
    stderr: stripVTControlCharacters(outcome.stderr),
  };
}
