import { once } from 'node:events';
import { readFile } from 'node:fs/promises';
import { buffer } from 'node:stream/consumers';
import { closeServers } from '../agent/close-servers.ts';
import { createHttpServer } from '../agent/http-server.ts';
import { consoleLog } from '../agent/log.ts';
import { parseAddress } from '../agent/run-config.ts';
import { listenTcp } from '../agent/sockets.ts';
import { parseTrust } from '../agent/trust-file.ts';
import { reportJson, reportText } from '../agent/verify-report.ts';
import { readExpectations, readVerifyFile, readVerifyInput } from '../agent/verify-request.ts';
import { verifyRoute } from '../agent/verify-route.ts';
import type { Trust } from '../attest/verify/input.ts';
import { verifyAttestation } from '../attest/verify/verify.ts';

export interface VerifyFlags {
  readonly trust?: string;
  readonly reportData?: string;
  readonly appId?: string;
  readonly composeHash?: string;
  readonly appCompose?: string;
  readonly osImageHash?: string;
  readonly keyProvider?: string;
  readonly mrtd?: string;
  readonly rtmr0?: string;
  readonly rtmr1?: string;
  readonly rtmr2?: string;
  readonly mrConfig?: string;
  readonly json?: boolean;
  readonly listen?: string;
}

/**
 * Verifies an attestation or a quote in a file, `-` for standard input, and says what was checked. Exit code 1 when it is
 * not valid. With `listen` it serves `POST /verify` until SIGTERM or SIGINT instead.
 */
export async function verify(file: string | undefined, flags: VerifyFlags): Promise<void> {
  const trust = flags.trust === undefined ? {} : parseTrust(await readFile(flags.trust, 'utf8'));
  if (flags.listen !== undefined) return serveVerifier(flags.listen, trust);
  const content = file === undefined || file === '-' ? await buffer(process.stdin) : await readFile(file);
  // The file is the prover's: only flags say what is expected.
  const input = readVerifyInput(readVerifyFile(content));
  const expected = readExpectations(await expectations(flags));
  const report = await verifyAttestation(input, trust, expected);
  process.stdout.write(flags.json ? `${JSON.stringify(reportJson(report), null, 2)}\n` : reportText(report));
  if (!report.valid) process.exitCode = 1;
}

/** Expectations that were given as flags, by their names in `expected` of a request. */
async function expectations(flags: VerifyFlags): Promise<Record<string, string>> {
  const given = {
    report_data: flags.reportData,
    app_id: flags.appId,
    compose_hash: flags.composeHash,
    os_image_hash: flags.osImageHash,
    key_provider: flags.keyProvider,
    mrtd: flags.mrtd,
    rtmr0: flags.rtmr0,
    rtmr1: flags.rtmr1,
    rtmr2: flags.rtmr2,
    app_compose: flags.appCompose === undefined ? undefined : await readFile(flags.appCompose, 'utf8'),
    mr_config: flags.mrConfig === undefined ? undefined : await readFile(flags.mrConfig, 'utf8'),
  };
  return Object.fromEntries(Object.entries(given).filter((entry): entry is [string, string] => entry[1] !== undefined));
}

async function serveVerifier(address: string, trust: Trust): Promise<void> {
  const server = createHttpServer([verifyRoute(() => trust)], consoleLog(), { connections: 64 });
  const { host, port } = parseAddress(address);
  console.log(`POST ${await listenTcp(server, host, port)}/verify`);
  await Promise.race([once(process, 'SIGTERM'), once(process, 'SIGINT')]);
  await closeServers([server]);
}
