import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type AppCompose, defaultAppId, instanceId, parseAppCompose } from '../app-compose.ts';
import { Attestor } from '../attest.ts';
import { measureBoot } from '../boot-measurements.ts';
import { sha384 } from '../hash.ts';
import { mrConfigIdV1 } from '../measurements.ts';
import type { Collateral } from '../simulated/collateral.ts';
import { issueCollateral } from '../simulated/collateral.ts';
import { SimulatedPlatform } from '../simulated/platform.ts';
import { SimulatedTdxQuoter } from '../simulated/tdx-quoter.ts';
import { systemEvents } from '../system-events.ts';

/** An app VM as a test sees it, with its boot measured. */
export interface AttestedVm {
  readonly platform: SimulatedPlatform;
  readonly collateral: Collateral;
  readonly compose: AppCompose;
  readonly attestor: Attestor;
  readonly eventLogPath: string;
  [Symbol.asyncDispose](): Promise<void>;
}

export const composeText = JSON.stringify({
  manifest_version: 2,
  name: 'test app',
  runner: 'docker-compose',
  docker_compose_file: 'services: {}',
});

export interface AttestedVmOptions {
  readonly platform?: SimulatedPlatform;
  /** Of app-compose.json. */
  readonly text?: string;
  readonly eventLogVersion?: 1 | 2;
  /** Default: version 1, of the compose hash. */
  readonly mrConfigId?: Buffer;
}

export async function attestedVm({
  platform = SimulatedPlatform.create(),
  text = composeText,
  eventLogVersion = 1,
  mrConfigId,
}: AttestedVmOptions = {}): Promise<AttestedVm> {
  const directory = await mkdtemp(join(tmpdir(), 'berth-attest-'));
  const compose = parseAppCompose(text);
  const boot = measureBoot({
    firmware: sha384('firmware'),
    kernel: sha384('kernel'),
    initramfs: sha384('initramfs'),
    commandLine: 'console=ttyS0',
    rootfs: sha384('rootfs'),
    hardware: '{"cpus":1}',
  });
  const quoter = new SimulatedTdxQuoter(platform, { ...boot, mrConfigId: mrConfigId ?? mrConfigIdV1(compose.hash) });
  const eventLogPath = join(directory, 'log', 'runtime_events.log');
  const attestor = await Attestor.open({ quoter, eventLogPath, vmConfig: '{"cpu_count":1}' });
  const appId = defaultAppId(compose.hash);
  const system = {
    appId,
    composeHash: compose.hash,
    instanceId: instanceId(Buffer.alloc(20, 5), appId),
    keyProvider: { name: 'none', id: '' },
    storageFs: 'ext4',
  } as const;
  for (const event of systemEvents(system, eventLogVersion)) await attestor.measure(event);
  return {
    platform,
    collateral: issueCollateral(platform),
    compose,
    attestor,
    eventLogPath,
    [Symbol.asyncDispose]: () => rm(directory, { recursive: true, force: true }),
  };
}
