/** What a person or a service manager that runs the daemon sees of it. */

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmod, mkdtemp, readdir, readFile, rm, stat } from 'node:fs/promises';
import { request } from 'node:http';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { after, before, describe, it } from 'node:test';
import { ProcessTable } from '../src/engine/qemu/qemu-process.ts';
import { smallVm, type WireVm } from './support/api.ts';
import { assertPrivateNetwork } from './support/daemon.ts';
import { eventually } from './support/eventually.ts';
import { noTraces, traces } from './support/leftovers.ts';
import { type RunningBerth, runBerth, startServe } from './support/serve.ts';

/** Starts that must fail need no bridge of their own. */
const userNetwork = { BERTH_NETWORK_MODE: 'user' };

let home: string;

before(async () => {
  await assertPrivateNetwork();
  home = await mkdtemp('/tmp/berth-test-');
});
after(() => rm(home, { recursive: true, force: true }));

/** A start that must fail with exit code 1, nothing on standard output, and one line, which is returned. */
async function refusal(args: readonly string[], env: Readonly<Record<string, string>>): Promise<string> {
  const { code, stdout, stderr } = await runBerth(['serve', ...args], { BERTH_HOME: home, ...env });
  assert.deepEqual({ code, stdout }, { code: 1, stdout: '' }, stderr);
  assert.match(stderr, /^berth: [^\n]+\n$/);
  return stderr.slice('berth: '.length).trimEnd();
}

describe('berth doctor', () => {
  it('says what the host can do, and its exit code says whether something lacks', async () => {
    const { code, stdout, stderr } = await runBerth(['doctor'], { BERTH_HOME: home });
    assert.equal(stderr, '');
    const findings = stdout.split('\n').filter((line) => /^(ok {2}|LACK) {2}/.test(line));
    const lacks = findings.filter((line) => line.startsWith('LACK'));
    assert.equal(code, lacks.length > 0 ? 1 : 0, stdout);
    // Every other line tells what to do about a lack.
    assert.equal(stdout.trimEnd().split('\n').length, findings.length + lacks.length, stdout);
    for (const check of ['qemu-system-x86_64: /', 'qemu-img: /', 'host kernel: ', 'image: sandbox, in /'])
      assert.ok(
        findings.some((line) => line.startsWith(`ok    ${check}`)),
        `${check} in:\n${stdout}`,
      );
    assert.match(stdout, /^ok {4}acceleration: (kvm|tcg) \(.+\)$/m);
    assert.match(stdout, /^(ok {2}|LACK) {2}disk: \d+\.\d GiB free at \/tmp\/berth-test-/m);
    assert.match(stdout, /^(ok {2}|LACK) {2}cgroup limits: cpu (yes|no), memory (yes|no)$/m);
  });
});

describe('berth demo', () => {
  it('runs a command and a program in a VM, says how long each step took, and leaves nothing', async () => {
    const place = await mkdtemp('/tmp/berth-test-');
    await chmod(place, 0o711);
    try {
      const { code, stdout, stderr } = await runBerth(['demo'], {
        TMPDIR: place,
        BERTH_SETUP_TIMINGS: JSON.stringify([{ step: 'packages', seconds: 1.5 }]),
      });
      assert.deepEqual({ code, stderr }, { code: 0, stderr: '' }, stdout);
      assert.match(stdout, /^ {4}hello from vm-[0-9a-f]{8}, kernel \d+\.\S+, uid 1000$/m);
      assert.match(stdout, /^ {4}result: \{"primes":\[2,3,5,7,11,13,17,19,23,29\]\}$/m);
      const table = stdout.slice(stdout.indexOf('\nStep '));
      for (const step of ['Booting a VM', 'Running a shell command', 'Running a TypeScript program'])
        assert.match(table, new RegExp(`^${step} +\\d+\\.\\d\\d s$`, 'm'));
      assert.match(table, /^Set-up: packages +1\.50 s$/m);
      assert.deepEqual(await readdir(place), []);
      assert.deepEqual(
        (await new ProcessTable().list()).filter(({ dir }) => dir.startsWith(place)),
        [],
      );
    } finally {
      await rm(place, { recursive: true, force: true });
    }
  });
});

describe('berth serve', () => {
  it('prints the configuration it would run with, without secrets, and starts nothing', async () => {
    const { code, stdout, stderr } = await runBerth(['serve', '--print-config', '--quota-max-vms', '7'], {
      BERTH_HOME: home,
      BERTH_API_KEY: 'not-for-show',
      BERTH_QUOTA_MAX_VMS: '3',
      BERTH_NETWORK_BRIDGE: 'other0',
    });
    assert.deepEqual({ code, stderr }, { code: 0, stderr: '' });
    assert.ok(stdout.includes(`home = "${home}"`), stdout);
    assert.match(stdout, /^max_vms = 7$/m);
    assert.match(stdout, /^bridge = "other0"$/m);
    assert.doesNotMatch(stdout, /not-for-show|api_key/);
    await assert.rejects(stat(join(home, 'berth.db')), { code: 'ENOENT' });
  });

  it('refuses unknown settings and unusable values in one line', async () => {
    assert.match(await refusal([], { BERTH_NO_SUCH: '1' }), /^unknown environment variable BERTH_NO_SUCH$/);
    assert.match(await refusal([], { BERTH_QUOTA_MAX_VMS: 'many' }), /^BERTH_QUOTA_MAX_VMS: must be a whole number$/);
    assert.match(
      await refusal([], { ...userNetwork, BERTH_HOME: `/tmp/${'x'.repeat(60)}` }),
      /^the path of the data directory may have at most \d+ bytes: /,
    );
    assert.match(
      await refusal([], { BERTH_NETWORK_ADDRESS: '172.16.0.1/99' }),
      /^Invalid IP address or CIDR: 172\.16\.0\.1\/99\. /,
    );
  });

  it('refuses a data directory that VM processes could not reach, and says what closes it', async () => {
    const closed = await mkdtemp('/tmp/berth-test-');
    try {
      const unreachable = `VM processes cannot reach it: chmod o+x ${closed}, or set BERTH_HOME to a directory elsewhere`;
      const inside = { ...userNetwork, BERTH_HOME: join(closed, 'home'), BERTH_LOG_LEVEL: 'silent' };
      assert.equal(await refusal([], inside), `the data directory is ${closed}/home. ${unreachable}`);
      const { code, stdout } = await runBerth(['doctor'], inside);
      assert.equal(code, 1);
      assert.ok(stdout.includes(`LACK  disk: ${closed}/home\n      ${unreachable}\n`), stdout);
    } finally {
      await rm(closed, { recursive: true, force: true });
    }
  });

  it('refuses flags it does not know', async () => {
    const { code, stdout, stderr } = await runBerth(['serve', '--no-such'], { BERTH_HOME: home });
    assert.deepEqual({ code, stdout }, { code: 1, stdout: '' });
    assert.match(stderr, /^error: unknown option '--no-such'\n/);
  });

  it('says in one line which address is in use', async () => {
    const server = createServer().listen(0, '127.0.0.1');
    await once(server, 'listening');
    try {
      const address = server.address();
      assert.ok(address !== null && typeof address === 'object');
      const taken = `127.0.0.1:${address.port}`;
      const env = { BERTH_HOME: home, BERTH_API_KEY: 'key', BERTH_LOG_LEVEL: 'silent', ...userNetwork };
      const { code, stderr } = await runBerth(['serve'], { ...env, BERTH_LISTEN_RUN_DAT_SHEESH: taken });
      assert.equal(code, 1, stderr);
      assert.equal(stderr, `berth: listen address ${taken} is in use: stop what listens there, or choose another\n`);
      await assert.rejects(stat(join(home, 'listeners.json')), { code: 'ENOENT' });
    } finally {
      server.close();
    }
  });
});

describe('a daemon under a service manager, on a unix socket, with a key it made', () => {
  let env: Record<string, string>;
  let socketPath: string;
  let manager: ServiceManager;
  let daemon: RunningBerth;
  let key: string;
  let vm: WireVm;
  let bootId: string;

  /** A call over the socket; JSON both ways. */
  async function call(method: string, path: string, body?: unknown, apiKey = key) {
    const headers = { 'x-api-key': apiKey, ...(body === undefined ? {} : { 'content-type': 'application/json' }) };
    const sent = request({ socketPath, method, path, headers });
    sent.end(body === undefined ? undefined : JSON.stringify(body));
    const [response] = await once(sent, 'response');
    const answer = await text(response);
    return { status: response.statusCode as number, json: answer === '' ? null : JSON.parse(answer) };
  }

  async function readBootId(): Promise<string> {
    const cmd = 'cat /proc/sys/kernel/random/boot_id';
    const { status, json } = await call('POST', `/v1/vms/${vm.id}/exec`, { cmd });
    assert.equal(status, 200, JSON.stringify(json));
    assert.equal(json.exitCode, 0, json.stderr);
    return json.stdout;
  }

  before(async () => {
    socketPath = join(home, 'api.sock');
    manager = await startServiceManager(join(home, 'notify.sock'));
    env = {
      BERTH_HOME: home,
      BERTH_LISTEN_RUN_DAT_SHEESH: `unix:${socketPath}`,
      BERTH_LISTEN_METALD: `unix:${join(home, 'metald.sock')}`,
      BERTH_NETWORK_RESOLVER: 'false',
      // What goes on beside a VM is no part of this.
      BERTH_TEMPLATE_BUILD: 'false',
      BERTH_TEMPLATE_WAITING: '0',
      NOTIFY_SOCKET: join(home, 'notify.sock'),
    };
    daemon = await startServe(env);
  });
  after(async () => {
    await daemon.stop();
    // Whatever failed: no VM stays behind.
    for (const pid of (await traces(home)).processes) process.kill(pid, 'SIGKILL');
    await manager.stop();
  });

  it('tells the manager that it is ready, and everybody where it listens', async () => {
    await eventually('READY=1 arrives', async () => manager.told().includes('READY=1'));
    const listeners = JSON.parse(await readFile(join(home, 'listeners.json'), 'utf8'));
    assert.deepEqual(listeners, {
      'run-dat-sheesh': `unix:${socketPath}`,
      metald: `unix:${join(home, 'metald.sock')}`,
    });
    assert.ok(daemon.stdout().includes(`run-dat-sheesh: unix:${socketPath}\n`), daemon.stdout());
  });

  it('shows the key and keeps it for its owner alone', async () => {
    key = /^API key: (\S{43}) \(shown this once/m.exec(daemon.stdout())?.[1] ?? '';
    const file = join(home, 'api-key');
    assert.equal(await readFile(file, 'utf8'), `${key}\n`);
    assert.equal((await stat(file)).mode & 0o777, 0o600);
    assert.ok(!daemon.stderr().includes(key), 'the key is in the log');
    assert.equal((await call('GET', '/v1/vms')).status, 200);
    assert.equal((await call('GET', '/v1/vms', undefined, 'another')).status, 401);
  });

  it('tells the manager that it stops, and leaves the VM running', async () => {
    const created = await call('POST', '/v1/vms', smallVm);
    assert.equal(created.status, 201, JSON.stringify(created.json));
    vm = created.json;
    bootId = await readBootId();
    const { processes } = await traces(home);
    assert.equal(processes.length, 1);
    assert.equal(await daemon.stop(), 0, daemon.stderr());
    await eventually('STOPPING=1 arrives', async () => manager.told().includes('STOPPING=1'));
    assert.match(daemon.stdout(), /^SIGTERM: stopping; VMs keep running$/m);
    assert.deepEqual((await traces(home)).processes, processes);
    await assert.rejects(stat(join(home, 'listeners.json')), { code: 'ENOENT' });
  });

  it('finds the VM again at its next start, which shows the key no more', async () => {
    daemon = await startServe(env, ['--stop-vms']);
    assert.ok(daemon.stdout().includes(`API key: in ${join(home, 'api-key')}\n`), daemon.stdout());
    assert.ok(!daemon.stdout().includes(key), 'the key is shown again');
    assert.equal((await call('GET', `/v1/vms/${vm.id}`)).json.state, 'RUNNING');
    assert.equal(await readBootId(), bootId);
  });

  it('may not be started twice on a data directory or a socket', async () => {
    assert.match(await refusal([], { ...env, ...userNetwork }), /^another daemon uses /);
    const other = await mkdtemp('/tmp/berth-test-');
    try {
      const elsewhere = { ...env, ...userNetwork, BERTH_HOME: other, BERTH_API_KEY: 'key', BERTH_LOG_LEVEL: 'silent' };
      const { code, stderr } = await runBerth(['serve'], elsewhere);
      assert.deepEqual({ code, stderr }, { code: 1, stderr: `berth: listen address unix:${socketPath} is in use\n` });
    } finally {
      await rm(other, { recursive: true, force: true });
    }
    assert.equal((await call('GET', '/v1/vms')).status, 200);
  });

  it('takes the VMs down when it was told to', async () => {
    assert.equal((await call('DELETE', `/v1/vms/${vm.id}`)).status, 204);
    assert.equal((await call('POST', '/v1/vms', smallVm)).status, 201);
    assert.equal(await daemon.stop(), 0, daemon.stderr());
    const { processes, logWriters, taps, rules } = await traces(home);
    const none = { processes: noTraces.processes, logWriters: [], taps: [], rules: [] };
    assert.deepEqual({ processes, logWriters, taps, rules }, none);
  });
});

interface ServiceManager {
  /** Lines that were sent to the socket so far. */
  told(): readonly string[];
  stop(): Promise<void>;
}

/** Listens on a datagram socket as systemd does. Node has none; Perl is on every Debian machine. */
async function startServiceManager(path: string): Promise<ServiceManager> {
  const program = `
    use Socket; $| = 1;
    socket(S, AF_UNIX, SOCK_DGRAM, 0) && bind(S, pack_sockaddr_un($ARGV[0])) or die "$ARGV[0]: $!";
    print "listening\\n";
    while (defined recv(S, my $told, 4096, 0)) { print "$told\\n" }`;
  const child = spawn('perl', ['-e', program, path], { stdio: ['ignore', 'pipe', 'inherit'] });
  const ended = once(child, 'exit');
  let told = '';
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    told += text;
  });
  await eventually('the service manager listens', async () => told.startsWith('listening\n'));
  return {
    told: () => told.split('\n'),
    async stop() {
      child.kill();
      await ended;
    },
  };
}
