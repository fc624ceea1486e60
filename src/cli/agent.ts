import { once } from 'node:events';
import { readFile } from 'node:fs/promises';
import { startDevAgent } from '../agent/dev.ts';
import { consoleLog } from '../agent/log.ts';
import { startAgent } from '../agent/run.ts';
import { parseAddress, parseRunConfig } from '../agent/run-config.ts';

export interface AgentDevFlags {
  readonly dir: string;
  readonly appKeys?: string;
  readonly appCompose?: string;
  readonly tee?: string;
  readonly http: string;
  readonly docker: string;
}

/** Laptop mode, until SIGTERM or SIGINT. */
export async function agentDev(flags: AgentDevFlags): Promise<void> {
  const agent = await startDevAgent({
    directory: flags.dir,
    appKeysFile: flags.appKeys ?? null,
    appComposeFile: flags.appCompose ?? null,
    teeDirectory: flags.tee ?? null,
    http: parseAddress(flags.http),
    dockerSocket: flags.docker,
    log: consoleLog(),
  });
  console.log(`app      ${agent.appId.toString('hex')}, simulated TEE`);
  console.log(`dstack   ${agent.dstackSocket}`);
  console.log(`tappd    ${agent.tappdSocket}`);
  console.log(`guest    ${agent.guestSocket}`);
  console.log(`http     ${agent.httpUrl}`);
  console.log(`trust    ${agent.trustFile}`);
  await terminated();
  await agent.stop();
}

/** The agent in a VM, until SIGTERM or SIGINT. */
export async function agentRun(flags: { readonly config: string }): Promise<void> {
  const agent = await startAgent(parseRunConfig(await readFile(flags.config, 'utf8'), flags.config), consoleLog());
  console.log(`http     ${agent.httpUrl}`);
  await terminated();
  await agent.stop();
}

function terminated(): Promise<unknown> {
  return Promise.race([once(process, 'SIGTERM'), once(process, 'SIGINT')]);
}
