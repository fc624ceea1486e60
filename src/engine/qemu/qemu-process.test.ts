import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { runCommand } from '../../common/command.ts';
import { until } from '../../common/testing/until.ts';
import { ProcessTable, parseCommandLine, parseStat, processLabel, readStat } from './qemu-process.ts';
import { vmFiles } from './vm-files.ts';

test('a command line names its VM, whatever the names hold', () => {
  const names = [
    ['vm', '/a'],
    ['a-b_c', '/with space/and,comma,,twice/x=y:z'],
    ['id', '/line\nfeed,process=berth-vm'],
  ] as const;
  for (const [id, dir] of names) {
    assert.deepEqual(parseCommandLine(`qemu\0-name\0${processLabel(id, dir)}\0-m\0`), { id, dir });
  }
});

test('a process is called as daemons before this one called theirs, which run on', () => {
  assert.equal(processLabel('vm', '/home/vms/vm/run'), 'berth-vm:/home/vms/vm/run,process=berth-vm');
  const { qmpSocket, guestSocket } = vmFiles('/run');
  assert.deepEqual([qmpSocket, guestSocket], ['/run/qmp.sock', '/run/guest.sock']);
});

test('other command lines name none', () => {
  for (const text of ['', 'qemu\0', 'qemu\0-name\0', 'qemu\0-name\0other', `grep\0${processLabel('a', '/b')}`]) {
    assert.equal(parseCommandLine(text), null);
  }
});

test('a command name with parentheses does not confuse the fields', () => {
  const rest = `S 1 77 77 0 -1 0 0 0 0 0 12 34 0 0 20 0 1 0 98765 0 0`;
  const expected = { state: 'S', session: 77, cpuTicks: 46, threads: 1, startTime: '98765' };
  assert.deepEqual(parseStat(`42 (a) R 9 (b) ${rest}`), expected);
});

test('a process is found by what its command line says, but only the leader of a session', async () => {
  const table = new ProcessTable();
  const dir = `/nowhere/${process.pid}`;
  const follower = sleeper(dir, false);
  const leader = sleeper(dir, true);
  try {
    const found = await table.find('vm', dir);
    assert.equal(found?.pid, leader.pid);
    assert.equal(await table.find('other', dir), null);
    assert.equal(await table.find('vm', `${dir}0`), null);
  } finally {
    await end(follower);
    await end(leader);
  }
  assert.equal(await table.find('vm', dir), null);
});

test('a process that was told of is not looked for', async () => {
  const table = new ProcessTable();
  const dir = `/nowhere/told/${process.pid}`;
  // Looking would not find it, since it does not lead its session.
  const child = sleeper(dir, false);
  await table.learn('vm', dir, child.pid as number);
  assert.equal((await table.find('vm', dir))?.pid, child.pid);
  assert.equal(await table.find('other', dir), null);
  await end(child);
  assert.equal(await table.find('vm', dir), null);
  await table.learn('vm', dir, child.pid as number);
  assert.equal(await table.find('vm', dir), null);
});

test('a recycled pid is neither trusted nor killed', async () => {
  const table = new ProcessTable();
  const dir = `/nowhere/${process.pid}`;
  const child = sleeper(dir, true);
  try {
    const real = await table.find('vm', dir);
    assert.ok(real !== null);
    const stale = { ...real, startTime: String(Number(real.startTime) - 1) };
    assert.equal(await table.isAlive(stale), false);
    assert.equal(await table.kill(stale, 0), true);
    assert.equal(await table.isAlive(real), true);
    assert.equal(await table.waitForEnd(real, 10), false);
    assert.equal(await table.kill(real, 5000), true);
  } finally {
    await end(child);
  }
});

test('a process that is no more has no state', async () => {
  const child = sleeper('/nowhere', false);
  await end(child);
  assert.equal(await readStat(child.pid as number), null);
});

test('a process whose first thread has ended lives on with the others, which hold its files', async () => {
  const dir = await mkdtemp(join(tmpdir(), 'berth-process-'));
  const program = join(dir, 'program');
  await writeFile(`${program}.c`, firstThreadEnds);
  await runCommand('gcc', ['-pthread', '-o', program, `${program}.c`]);
  const child = spawn(program, ['-name', processLabel('vm', dir)], { detached: true, stdio: 'ignore' });
  try {
    const table = new ProcessTable();
    await table.learn('vm', dir, child.pid as number);
    const stat = async () => await readStat(child.pid as number);
    await until('its first thread has ended', async () => (await stat())?.state === 'Z');
    assert.equal((await table.find('vm', dir))?.pid, child.pid);
    assert.equal(
      await table.kill({ id: 'vm', dir, pid: child.pid as number, startTime: (await stat())!.startTime }, 5000),
      true,
    );
    assert.equal(await table.find('vm', dir), null);
  } finally {
    await end(child);
    await rm(dir, { recursive: true });
  }
});

const firstThreadEnds = `
#include <pthread.h>
#include <sys/syscall.h>
#include <unistd.h>
static void *wait_long(void *unused) { sleep(60); return unused; }
int main(void) {
  pthread_t thread;
  pthread_create(&thread, 0, wait_long, 0);
  syscall(SYS_exit, 0);
}
`;

function sleeper(dir: string, detached: boolean): ChildProcess {
  return spawn('perl', ['-e', 'sleep 60', '--', '-name', processLabel('vm', dir)], { detached, stdio: 'ignore' });
}

async function end(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const exit = once(child, 'exit');
  child.kill('SIGKILL');
  await exit;
}
