/** The Debian part of a root file system, by mmdebstrap. */

import { mkdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { CommandError, runCommand } from '../common/command.ts';
import { runBuildCommand } from './build-command.ts';
import type { BuildContext } from './build-context.ts';

const fetchKernel = fileURLToPath(new URL('./fetch-kernel.sh', import.meta.url));
/** Makes /bin, /lib and /sbin links into /usr before the first package is unpacked. */
const mergedUsrHooks = '/usr/share/mmdebstrap/hooks/maybe-merged-usr';

const officialSources: readonly (readonly [uri: string, suite: string])[] = [
  ['http://deb.debian.org/debian', ''],
  ['http://deb.debian.org/debian', '-updates'],
  ['http://deb.debian.org/debian-security', '-security'],
];

/** Where downloaded packages of the kernel are put: a directory of .deb files. */
export function kernelPackages(context: BuildContext): string {
  return join(context.work, 'kernel-packages');
}

/** Unpacks and configures the recipe's packages in `context.root`, and downloads the kernel's. */
export async function installPackages(context: BuildContext): Promise<void> {
  const { debian, kernel, timestamp } = context.recipe.data;
  await mkdir(kernelPackages(context), { recursive: true });
  await runBuildCommand(
    'mmdebstrap',
    [
      `--variant=${debian.variant}`,
      '--format=directory',
      '--architectures=amd64',
      `--include=${debian.packages.join(',')}`,
      '--aptopt=Acquire::Languages "none"',
      '--aptopt=APT::Install-Recommends "false"',
      '--aptopt=Acquire::Retries "3"',
      ...debian.exclude.map((path) => `--dpkgopt=path-exclude=${path}`),
      ...debian.include.map((path) => `--dpkgopt=path-include=${path}`),
      `--hook-dir=${mergedUsrHooks}`,
      `--extract-hook=${fetchKernel}`,
      debian.suite,
      context.root,
      ...(await debianSources(debian.suite)),
    ],
    {
      env: {
        DEBIAN_FRONTEND: 'noninteractive',
        SOURCE_DATE_EPOCH: String(timestamp),
        // Python's hashes and sets are random otherwise, and so are the files it compiles.
        PYTHONHASHSEED: '0',
        BERTH_KERNEL_PACKAGE: 'package' in kernel ? kernel.package : kernel.source,
        BERTH_KERNEL_DIR: kernelPackages(context),
      },
      signal: context.signal,
      onLine: (line) => {
        if (line.startsWith('I: ')) context.detail(line.slice(3));
      },
    },
  );
}

/** Names and versions of the packages in the root file system. */
export async function installedPackages(root: string): Promise<Record<string, string>> {
  const status = await readFile(join(root, 'var/lib/dpkg/status'), 'utf8');
  const packages: Record<string, string> = {};
  for (const paragraph of status.split('\n\n')) {
    const name = /^Package: (.+)$/m.exec(paragraph)?.[1];
    const version = /^Version: (.+)$/m.exec(paragraph)?.[1];
    if (name !== undefined && version !== undefined) packages[name] = version;
  }
  return packages;
}

/** The host's own mirrors where it is the same Debian, else the official ones. */
async function debianSources(suite: string): Promise<string[]> {
  const format = '$(REPO_URI) $(CODENAME) $(COMPONENT) $(ORIGIN)';
  let targets = '';
  try {
    targets = (await runCommand('apt-get', ['indextargets', '--format', format, 'Created-By: Packages'])).stdout;
  } catch (error) {
    // A host without apt: mmdebstrap will say what it needs.
    if (!(error instanceof CommandError)) throw error;
  }
  const sources = new Set<string>();
  for (const line of targets.split('\n')) {
    const [uri, codename, component, ...origin] = line.split(' ');
    if (origin.join(' ') !== 'Debian' || component !== 'main') continue;
    if ([suite, `${suite}-updates`, `${suite}-security`].includes(codename!))
      sources.add(`deb ${uri} ${codename} main`);
  }
  const complete = [...sources].some((source) => source.endsWith(` ${suite} main`));
  return complete ? [...sources] : officialSources.map(([uri, part]) => `deb ${uri} ${suite}${part} main`);
}
