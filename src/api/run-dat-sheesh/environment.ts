import { DialectError } from './errors.ts';

const namePattern = /^[A-Za-z_][A-Za-z0-9_]*$/;

/** Checks the `env` of run-ts and run-js: `KEY=value` with a plain name. The value may hold `=` or be empty. */
export function parseEnvironmentList(entries: readonly string[]): Record<string, string> {
  return Object.fromEntries(
    entries.map((entry) => {
      const equals = entry.indexOf('=');
      if (equals <= 0) throw new DialectError(400, `Invalid env entry (expected KEY=value): ${entry.slice(0, 200)}`);
      const name = entry.slice(0, equals);
      if (!namePattern.test(name)) throw new DialectError(400, `Invalid env var name: ${name.slice(0, 200)}`);
      return [name, checkedValue(name, entry.slice(equals + 1))];
    }),
  );
}

/** Checks the `env` of exec. A name may be anything the operating system takes. */
export function parseEnvironmentObject(env: Readonly<Record<string, string>>): Record<string, string> {
  const entries = Object.entries(env);
  if (entries.length > 1024) throw new DialectError(400, 'Too many env entries (max 1024)');
  return Object.fromEntries(
    entries.map(([name, value]) => {
      if (name === '' || name.length > 256 || /[=\0]/.test(name)) {
        throw new DialectError(400, `Invalid env var name: ${name.slice(0, 200)}`);
      }
      return [name, checkedValue(name, value)];
    }),
  );
}

function checkedValue(name: string, value: string): string {
  if (value.includes('\0')) throw new DialectError(400, `Invalid value of env var: ${name}`);
  return value;
}
