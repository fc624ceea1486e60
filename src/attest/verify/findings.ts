import type { AttestedClaims, Check, CheckName, VerificationReport } from './report.ts';

/** Collects what the checks find. */
export class Findings {
  readonly #checks: Check[] = [];
  readonly #notChecked: { name: CheckName; why: string }[] = [];
  /** Until a root of hardware was found at the end of the certificates. */
  simulated = true;

  /** @returns `ok` */
  add(name: CheckName, ok: boolean, detail: string): boolean {
    this.#checks.push({ name, ok, simulated: this.simulated, detail });
    return ok;
  }

  skip(name: CheckName, why: string): void {
    this.#notChecked.push({ name, why });
  }

  report(claims: AttestedClaims | null): VerificationReport {
    return {
      valid: claims !== null && this.#checks.every(({ ok }) => ok),
      simulated: this.simulated,
      checks: this.#checks,
      notChecked: this.#notChecked,
      claims,
    };
  }
}
