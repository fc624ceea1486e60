import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { createConnection } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

/** A TPM that is a program. Its state lasts until it is disposed of; each start of it is a reset of the machine. */
export interface SoftwareTpm {
  /** For TpmTools. */
  readonly tcti: string;
  /** As when the machine is switched off and on. */
  reset(): Promise<void>;
  [Symbol.asyncDispose](): Promise<void>;
}

export async function startSwtpm(): Promise<SoftwareTpm> {
  const directory = await mkdtemp(join(tmpdir(), 'berth-swtpm-'));
  const socket = join(directory, 'sock');
  const state = join(directory, 'state');
  await mkdir(state);
  let stop = await start(socket, state);
  return {
    tcti: `swtpm:path=${socket}`,
    reset: async () => {
      await stop();
      stop = await start(socket, state);
    },
    [Symbol.asyncDispose]: async () => {
      await stop();
      await rm(directory, { recursive: true, force: true });
    },
  };
}

async function start(socket: string, state: string): Promise<() => Promise<void>> {
  const child = spawn(
    'swtpm',
    [
      ...['socket', '--tpm2', '--tpmstate', `dir=${state}`],
      ...['--server', `type=unixio,path=${socket}`, '--ctrl', `type=unixio,path=${socket}.ctrl`],
      ...['--flags', 'not-need-init,startup-clear'],
    ],
    { stdio: 'ignore' },
  );
  const exited = once(child, 'exit');
  while (!(await answers(`${socket}.ctrl`))) {
    if (child.exitCode !== null) throw new Error('swtpm did not start');
    await sleep(20);
  }
  return async () => {
    child.kill();
    await exited;
  };
}

async function answers(path: string): Promise<boolean> {
  const connection = createConnection(path);
  try {
    await once(connection, 'connect');
    return true;
  } catch {
    return false;
  } finally {
    connection.destroy();
  }
}
