import { cpus } from 'node:os';
import { benchRecords } from './records.ts';
import { table } from './statistics.ts';
import { benchVms } from './vms.ts';

/**
 * Measures what SPECIFICATION.md promises, each beside its floor in the same run, and prints the table. Exit code 1 when a
 * target is missed. A word as argument runs only the benches whose name has it.
 */
const benches = { records: benchRecords, vms: benchVms };
const [word = ''] = process.argv.slice(2);

const rows = [];
for (const [name, bench] of Object.entries(benches)) if (name.includes(word)) rows.push(...(await bench()));

const [cpu] = cpus();
console.log(
  `${new Date().toISOString().slice(0, 10)}, ${cpus().length} x ${cpu?.model ?? 'unknown processor'}, Node ${process.version}\n`,
);
console.log(table(rows));
if (rows.some((row) => !row.met)) process.exitCode = 1;
