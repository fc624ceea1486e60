import { readFileSync, writeSync } from 'node:fs';
import { BerthError } from '../common/errors.ts';
import { consoleLog } from './log.ts';
import { startAgent } from './run.ts';
import { parseRunConfig } from './run-config.ts';

/**
 * The agent as a program of its own, which is put into images as one file: `node agent.cjs [agent.json]`. It ends at SIGTERM.
 */
async function main(path = '/dstack/agent.json'): Promise<void> {
  try {
    const agent = await startAgent(parseRunConfig(readFileSync(path, 'utf8'), path), consoleLog());
    // Node makes a stream for console.log, which takes a tenth of the start where a processor is emulated.
    writeSync(1, `listening: ${agent.httpUrl}\n`);
    process.once('SIGTERM', () => agent.stop());
  } catch (error) {
    console.error(error instanceof BerthError ? `${error.message}. ${error.advice}` : error);
    process.exitCode = 1;
  }
}

void main(process.argv[2]);
