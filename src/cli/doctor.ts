import { constants } from 'node:fs';
import { access, mkdir, statfs } from 'node:fs/promises';
import { join } from 'node:path';
import { pino } from 'pino';
import { runCommand } from '../common/command.ts';
import { openNetwork } from '../daemon/network.ts';
import { reachAdvice } from '../daemon/reachable.ts';
import type { Config } from '../daemon/settings.ts';
import { claimUidBlock } from '../daemon/uid-block.ts';
import { QemuEngine } from '../engine/qemu/qemu-engine.ts';
import { findBuiltImage } from '../image/build.ts';

interface Finding {
  readonly check: string;
  readonly ok: boolean;
  readonly detail: string;
  /** What to do about it; shown when it is not ok. */
  readonly advice: string;
}

const programs = [
  ['qemu-system-x86_64', 'qemu-system-x86'],
  ['qemu-img', 'qemu-utils'],
  ['mke2fs', 'e2fsprogs'],
  ['debugfs', 'e2fsprogs'],
  ['mmdebstrap', 'mmdebstrap'],
  ['gcc', 'gcc'],
  ['setpriv', 'util-linux'],
  ['perl', 'perl-base'],
] as const;

/** Looks at the host and says what Berth can do on it. Exit code 1 when VMs cannot run. */
export async function doctor(config: Config): Promise<void> {
  const findings = [
    ...(await checkPrograms()),
    await checkDisk(config),
    await checkImage(config),
    ...(await checkEngine(config)),
    ...(await checkNetwork(config)),
  ];
  for (const { check, ok, detail, advice } of findings) {
    console.log(`${ok ? 'ok  ' : 'LACK'}  ${check}: ${detail}`);
    if (!ok) console.log(`      ${advice}`);
  }
  if (findings.some((finding) => !finding.ok)) process.exitCode = 1;
}

async function checkPrograms(): Promise<Finding[]> {
  const findings: Finding[] = [];
  for (const [program, debianPackage] of programs) {
    const path = await findProgram(program);
    findings.push({
      check: program,
      ok: path !== null,
      detail: path ?? 'not found',
      advice: `apt-get install ${debianPackage}`,
    });
  }
  return findings;
}

async function findProgram(name: string): Promise<string | null> {
  for (const dir of (process.env.PATH ?? '').split(':')) {
    const path = join(dir, name);
    try {
      await access(path, constants.X_OK);
      return path;
    } catch {
      // Not in this directory.
    }
  }
  return null;
}

async function checkDisk(config: Config): Promise<Finding> {
  const check = 'disk';
  const advice = 'free space, or set BERTH_HOME to a directory on a larger disk';
  try {
    await mkdir(config.home, { recursive: true, mode: 0o711 });
    const { bavail, bsize } = await statfs(config.home);
    const unreachable = await reachAdvice(config.home);
    if (unreachable !== null) return { check, ok: false, detail: config.home, advice: unreachable };
    const gib = (bavail * bsize) / 1024 ** 3;
    return { check, ok: gib >= 4, detail: `${gib.toFixed(1)} GiB free at ${config.home}`, advice };
  } catch {
    return { check, ok: false, detail: `${config.home} cannot be used`, advice };
  }
}

async function checkImage(config: Config): Promise<Finding> {
  const image = await findBuiltImage('sandbox', { cacheDir: config.cache });
  return {
    check: 'image',
    ok: image !== null,
    detail: image ? `sandbox, in ${config.cache}` : 'the sandbox image is not built yet',
    advice: 'bin/berth image build sandbox (npm start does it too)',
  };
}

async function checkEngine(config: Config): Promise<Finding[]> {
  const { stdout: release } = await runCommand('uname', ['-r']);
  const image = await findBuiltImage('sandbox', { cacheDir: config.cache });
  const engine = new QemuEngine({
    accel: config['engine.accel'],
    qemu: config['engine.qemu'],
    stateDir: join(config.cache, 'engine'),
    // Its own block's, as the daemon's would be: another directory's VMs may be running under the first of all.
    probeUid: process.getuid?.() === 0 ? await claimUidBlock(config.home, config['engine.uid_base']) : null,
    kernelForProbe: async () => image?.kernel ?? null,
    log: pino({ level: 'silent' }),
  });
  try {
    const { acceleration, reason, version, cpuLimits, memoryLimits } = await engine.capabilities();
    return [
      { check: 'host kernel', ok: true, detail: release.trim(), advice: '' },
      { check: 'QEMU', ok: true, detail: version, advice: '' },
      // Without KVM everything works, only slower.
      { check: 'acceleration', ok: true, detail: `${acceleration} (${reason})`, advice: '' },
      {
        check: 'cgroup limits',
        ok: cpuLimits && memoryLimits,
        detail: `cpu ${cpuLimits ? 'yes' : 'no'}, memory ${memoryLimits ? 'yes' : 'no'}`,
        advice: 'run as root on a host with the cpu and memory controllers; VMs run without these limits meanwhile',
      },
    ];
  } catch {
    return [{ check: 'QEMU', ok: false, detail: 'could not be probed', advice: 'apt-get install qemu-system-x86' }];
  } finally {
    await engine.close();
  }
}

async function checkNetwork(config: Config): Promise<readonly Finding[]> {
  const network = await openNetwork(config, pino({ level: 'silent' }));
  try {
    return await network.diagnose();
  } finally {
    await network.close();
  }
}
