import type { VerificationReport } from '../attest/verify/report.ts';

/** A report as JSON, names in snake_case. */
export function reportJson(report: VerificationReport) {
  const { claims } = report;
  return {
    is_valid: report.valid,
    simulated: report.simulated,
    reason: firstFailure(report),
    checks: report.checks,
    not_checked: report.notChecked,
    claims: claims && Object.fromEntries(Object.entries(claims).map(([name, value]) => [snakeCase(name), value])),
  };
}

/** A report for people: a line for each check. */
export function reportText(report: VerificationReport): string {
  const lines = report.checks.map(
    ({ name, ok, simulated, detail }) =>
      `${ok ? 'ok    ' : 'FAILED'} ${name}${simulated ? ' (simulated)' : ''}: ${detail}`,
  );
  const open = report.notChecked.map(({ name, why }) => `-      ${name}: not checked, ${why}`);
  const trust = report.simulated ? 'The TEE is simulated: its keys are in a file, not in a processor.' : '';
  const verdict = report.valid ? 'valid' : `NOT VALID: ${firstFailure(report) ?? 'nothing could be read'}`;
  return [...lines, ...open, ...(trust === '' ? [] : [trust]), verdict].join('\n').concat('\n');
}

function firstFailure({ checks }: VerificationReport): string | null {
  const failed = checks.find(({ ok }) => !ok);
  return failed ? `${failed.name}: ${failed.detail}` : null;
}

function snakeCase(name: string): string {
  return name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
}
