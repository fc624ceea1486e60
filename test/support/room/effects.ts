import fs from 'node:fs/promises';
import { syncBuiltinESMExports } from 'node:module';
import { DatabaseSync, StatementSync } from 'node:sqlite';

/**
 * Counts what this process does that a later one can see: commits of a database, and files that are made, renamed, linked
 * or removed. Armed with a number, it dies with SIGKILL in place of that one of them.
 */
let left = Number.POSITIVE_INFINITY;

export function dieAtEffect(number: number): void {
  left = number;
}

function beforeEffect(): void {
  left--;
  if (left === 0) process.kill(process.pid, 'SIGKILL');
}

type FileOperation = (...args: unknown[]) => Promise<unknown>;
const files = fs as unknown as Record<string, FileOperation>;

for (const name of ['rename', 'link', 'rm', 'mkdir', 'writeFile', 'open']) {
  const original = files[name]!;
  files[name] = (...args) => {
    // To open a file for reading changes nothing.
    if (name !== 'open' || (args[1] ?? 'r') !== 'r') beforeEffect();
    return original(...args);
  };
}
syncBuiltinESMExports();

const exec = DatabaseSync.prototype.exec;
DatabaseSync.prototype.exec = function (this: DatabaseSync, sql) {
  const isCommit = /\bCOMMIT\b/.test(sql) || (!this.isTransaction && /^\s*(CREATE|DROP)\b/.test(sql));
  if (isCommit) beforeEffect();
  return exec.call(this, sql);
};

const run = StatementSync.prototype.run;
StatementSync.prototype.run = function (this: StatementSync, ...args: Parameters<typeof run>) {
  if (this.sourceSQL === 'COMMIT') beforeEffect();
  return run.apply(this, args);
} as typeof run;
