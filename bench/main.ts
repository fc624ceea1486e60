import { cpus } from 'node:os';
import { benchAgent } from './agent.ts';
import { benchApi } from './api.ts';
import { benchBoot } from './boot.ts';
import { benchBurst, benchClone, benchSpare } from './clone.ts';
import { benchExec } from './exec.ts';
import { benchMetald } from './metald.ts';
import { benchParking } from './parking.ts';
import { type Row, table } from './report.ts';

/**
 * Measures what SPECIFICATION.md promises, each beside its floor in the same run, and prints the table. Exit code 1 when a
 * target is missed. `npm run bench -- <words>` runs the subjects whose name has one of the words.
 *
 * A subject is a file of its own that exports one function, which sets up what it needs, takes it down again, and returns
 * rows made by {@link times} and {@link quantity} of report.ts.
 */
const subjects: Readonly<Record<string, () => Promise<readonly Row[]>>> = {
  agent: benchAgent,
  api: benchApi,
  boot: benchBoot,
  clone: benchClone,
  burst: benchBurst,
  spare: benchSpare,
  exec: benchExec,
  metald: benchMetald,
  parking: benchParking,
};

const words = process.argv.slice(2);
const chosen = Object.keys(subjects).filter((name) => words.length === 0 || words.some((word) => name.includes(word)));
if (chosen.length === 0) {
  console.error(`nothing is called so: there are ${Object.keys(subjects).join(', ')}`);
  process.exit(2);
}

const rows: Row[] = [];
for (const name of chosen) {
  console.error(`bench: ${name}`);
  const more = await subjects[name]!();
  // One that fails later does not take these with it.
  console.error(table(more));
  rows.push(...more);
}
const [cpu] = cpus();
console.log(
  `${new Date().toISOString().slice(0, 10)}, ${cpus().length} x ${cpu?.model ?? 'unknown processor'}, Node ${process.version}\n`,
);
console.log(table(rows));
if (rows.some((row) => !row.met)) process.exitCode = 1;
