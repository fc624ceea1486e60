import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type DevAgent, type DevOptions, startDevAgent } from '../dev.ts';

export interface TestDevAgent extends DevAgent, AsyncDisposable {
  readonly directory: string;
  /** Failures that went to the log. */
  readonly errors: readonly object[];
  /** Stops it and starts it on the same directory. */
  restart(change?: Partial<DevOptions>): Promise<TestDevAgent>;
}

/** Laptop mode in a directory of its own, which is gone afterwards. */
export async function startTestAgent({
  compose,
  directory: given,
  ...change
}: Partial<DevOptions> & { readonly compose?: object } = {}): Promise<TestDevAgent> {
  const directory = given ?? (await mkdtemp(join(tmpdir(), 'berth-dev-')));
  if (compose) await writeFile(join(directory, 'app-compose.json'), JSON.stringify(compose));
  const errors: object[] = [];
  const agent = await startDevAgent({
    directory,
    appKeysFile: null,
    appComposeFile: null,
    teeDirectory: null,
    http: { host: '127.0.0.1', port: 0 },
    dockerSocket: join(directory, 'no-docker.sock'),
    log: { debug: () => {}, info: () => {}, error: (fields) => errors.push(fields) },
    ...change,
  }).catch(async (error: unknown) => {
    if (given === undefined) await rm(directory, { recursive: true });
    throw error;
  });
  return {
    ...agent,
    directory,
    errors,
    async restart(more = {}) {
      await agent.stop();
      return startTestAgent({ directory, ...change, ...more });
    },
    async [Symbol.asyncDispose]() {
      await agent.stop();
      await rm(directory, { recursive: true, force: true });
    },
  };
}
