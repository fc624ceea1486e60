import type { Attestation } from '../attestation.ts';
import {
  isRuntimeEvent,
  RUNTIME_REGISTER,
  type RuntimeEvent,
  runtimeEventDigest,
  type TdxEvent,
  withDigests,
} from '../events.ts';
import { sha256 } from '../hash.ts';
import { keyProviderNames } from '../key-provider.ts';
import { mrConfigIdV1, mrConfigIdV2, mrConfigIdV3 } from '../measurements.ts';
import { REPORT_DATA_BYTES } from '../quoter.ts';
import { replay } from '../rtmr.ts';
import { findSystemEvent } from '../system-events.ts';
import type { Findings } from './findings.ts';
import type { Expectations } from './input.ts';
import type { PlatformEvidence } from './platform-evidence.ts';
import type { CheckName } from './report.ts';

/** Checks what the signed registers and the event log say. */
export function checkContent(
  attestation: Attestation,
  evidence: PlatformEvidence,
  expected: Expectations,
  findings: Findings,
): void {
  checkReportData(attestation, evidence, expected.reportData, findings);
  checkEventLog(attestation, evidence, findings);
  const events = attestation.eventLog.filter(isRuntimeEvent);
  checkConfiguration(events, evidence, expected.mrConfig, findings);
  checkComposeHash(events, expected, findings);
  expectEvent(events, 'app-id', 'app-id', expected.appId, findings);
  expectEvent(events, 'os-image', 'os-image-hash', expected.osImageHash, findings);
  checkKeyProvider(events, expected.keyProvider, findings);
  checkMeasurements(evidence, expected.measurements, findings);
}

function checkReportData(
  attestation: Attestation,
  { reportData }: PlatformEvidence,
  wanted: Buffer | undefined,
  findings: Findings,
): void {
  const beside = attestation.reportData;
  if (beside.length > 0 && !beside.equals(reportData)) {
    findings.add('report-data', false, 'the report data beside the quote is not what the quote binds');
    return;
  }
  if (wanted === undefined) {
    findings.skip('report-data', 'no report data was expected: nothing says that the quote is fresh, or for whom');
    return;
  }
  const padded = Buffer.concat([wanted, Buffer.alloc(Math.max(0, REPORT_DATA_BYTES - wanted.length))]);
  const ok = padded.equals(reportData);
  findings.add('report-data', ok, ok ? 'the quote binds the expected data' : 'the quote binds other data');
}

function checkEventLog(
  { eventLog, runtimeEvents }: Attestation,
  { rtmrs }: PlatformEvidence,
  findings: Findings,
): void {
  const wrong = wrongEvent(eventLog);
  if (wrong !== null) {
    findings.add('event-log', false, wrong);
    return;
  }
  const replayed = replay(withDigests(eventLog));
  const stripped = !eventLog.some(({ imr }) => imr !== RUNTIME_REGISTER);
  const compared = stripped ? [RUNTIME_REGISTER] : [0, 1, 2, RUNTIME_REGISTER];
  const different = compared.filter((imr) => !replayed[imr]!.equals(rtmrs[imr]!));
  if (different.length > 0) {
    findings.add('event-log', false, `the events do not give ${names(different)}`);
    return;
  }
  const repeated = replay(runtimeEvents.map((event) => ({ imr: RUNTIME_REGISTER, digest: runtimeEventDigest(event) })));
  if (!repeated[RUNTIME_REGISTER].equals(rtmrs[RUNTIME_REGISTER])) {
    findings.add('event-log', false, 'the list of runtime events is not the one that was measured');
    return;
  }
  findings.add(
    'event-log',
    true,
    `the events give ${names(compared)}${stripped ? '; the log has no boot events' : ''}`,
  );
}

function names(registers: readonly number[]): string {
  return registers.map((imr) => `RTMR${imr}`).join(', ');
}

/** Why the log cannot be replayed, or null. */
function wrongEvent(events: readonly TdxEvent[]): string | null {
  for (const [index, event] of events.entries()) {
    const { imr, digest } = event;
    if (imr > RUNTIME_REGISTER) return `event ${index} is of RTMR${imr}`;
    if (!isRuntimeEvent(event)) {
      // Its content could not be checked against its digest.
      if (imr === RUNTIME_REGISTER) return `event ${index} of RTMR3 is not a runtime event`;
      if (digest.length !== 48) return `event ${index} has no digest`;
    } else if (digest.length > 0 && !digest.equals(runtimeEventDigest({ ...event, version: event.version ?? 1 })))
      return `event ${index} is not what its digest says`;
  }
  return null;
}

function checkConfiguration(
  events: readonly RuntimeEvent[],
  { mrConfigId }: PlatformEvidence,
  document: string | undefined,
  findings: Findings,
): void {
  if (document !== undefined) {
    const ok = mrConfigId?.equals(mrConfigIdV3(document)) ?? false;
    findings.add('configuration', ok, `MRCONFIGID ${ok ? 'holds' : 'does not hold'} the hash of the expected document`);
    return;
  }
  if (mrConfigId === null || mrConfigId.every((byte) => byte === 0)) {
    findings.skip('configuration', 'MRCONFIGID is not set');
    return;
  }
  const [version] = mrConfigId;
  const composeHash = findSystemEvent(events, 'compose-hash');
  const appId = findSystemEvent(events, 'app-id');
  const provider = keyProvider(events);
  if (version === 1 && composeHash) {
    const ok = mrConfigId.equals(mrConfigIdV1(composeHash));
    findings.add('configuration', ok, `MRCONFIGID ${ok ? 'holds' : 'does not hold'} the compose hash`);
  } else if (version === 2 && composeHash && appId && provider !== null) {
    const name = keyProviderNames.find((known) => known === provider.name);
    const ok =
      name !== undefined &&
      mrConfigId.equals(
        mrConfigIdV2({ composeHash, appId, keyProvider: name, keyProviderId: Buffer.from(provider.id, 'hex') }),
      );
    findings.add('configuration', ok, `MRCONFIGID ${ok ? 'fits' : 'does not fit'} app and key provider`);
  } else if (version === 3) findings.skip('configuration', 'MRCONFIGID is of a document, and none was expected');
  else findings.add('configuration', false, 'MRCONFIGID cannot be compared with the events');
}

function checkComposeHash(events: readonly RuntimeEvent[], expected: Expectations, findings: Findings): void {
  const { appCompose, composeHash } = expected;
  const hashed = appCompose === undefined ? undefined : sha256(appCompose);
  if (hashed !== undefined && composeHash !== undefined && !hashed.equals(composeHash))
    findings.add('compose-hash', false, 'the app-compose.json that is expected has not the hash that is expected');
  else expectEvent(events, 'compose-hash', 'compose-hash', hashed ?? composeHash, findings);
}

function expectEvent(
  events: readonly RuntimeEvent[],
  check: CheckName,
  event: string,
  wanted: Buffer | undefined,
  findings: Findings,
): void {
  const found = findSystemEvent(events, event);
  if (wanted === undefined) {
    findings.skip(check, 'nothing was expected');
    return;
  }
  const ok = found?.equals(wanted) ?? false;
  const seen = found === null ? `there is no event ${event}` : `the event ${event} is ${found.toString('hex')}`;
  findings.add(check, ok, ok ? seen : `${seen}, expected ${wanted.toString('hex')}`);
}

function keyProvider(events: readonly RuntimeEvent[]): { readonly name: string; readonly id: string } | null {
  const payload = findSystemEvent(events, 'key-provider');
  if (payload === null) return null;
  try {
    const { name, id } = JSON.parse(payload.toString()) as { name?: unknown; id?: unknown };
    return typeof name === 'string' && typeof id === 'string' ? { name, id } : null;
  } catch {
    return null;
  }
}

function checkKeyProvider(
  events: readonly RuntimeEvent[],
  wanted: Expectations['keyProvider'],
  findings: Findings,
): void {
  if (wanted === undefined) {
    findings.skip('key-provider', 'nothing was expected');
    return;
  }
  const found = keyProvider(events);
  const ok = found !== null && found.name === wanted.name && (wanted.id === undefined || found.id === wanted.id);
  const seen = found === null ? 'there is no key provider' : `the key provider is ${found.name} ${found.id}`;
  findings.add('key-provider', ok, ok ? seen : `${seen}, expected ${wanted.name} ${wanted.id ?? ''}`);
}

function checkMeasurements(
  { mrtd, rtmrs }: PlatformEvidence,
  wanted: Expectations['measurements'],
  findings: Findings,
): void {
  if (wanted === undefined) {
    findings.skip('measurements', 'nothing was expected: nothing says what booted');
    return;
  }
  const [rtmr0, rtmr1, rtmr2] = rtmrs;
  const registers = { mrtd, rtmr0, rtmr1, rtmr2 } as const;
  const different = Object.entries(wanted).filter(
    ([name, value]) => !registers[name as keyof typeof registers]?.equals(value),
  );
  const ok = different.length === 0;
  findings.add(
    'measurements',
    ok,
    `${ok ? Object.keys(wanted).join(', ') : different.map(([name]) => name).join(', ')} ${ok ? 'as expected' : 'other than expected'}`,
  );
}
