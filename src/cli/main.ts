import { Command, CommanderError, InvalidArgumentError, Option } from 'commander';
import { loadConfig } from '../daemon/config.ts';
import { type Config, flagName, type SettingKey, settingKeys, settings } from '../daemon/settings.ts';
import type { AgentDevFlags } from './agent.ts';
import { describeFailure } from './failure.ts';
import type { KmsBackupFlags, KmsResealFlags, KmsServeFlags } from './kms.ts';
import { serve } from './serve.ts';
import type { VerifyFlags } from './verify.ts';

// VM processes under other uids read what is made for them. Files that are nobody else's business say so themselves, so
// the mask of whoever starts this must not decide.
process.umask(0o022);

// What the daemon has no use for is loaded when it is asked for: it would cost the daemon memory.
const program = new Command('berth')
  .description('Runs VMs on this machine and serves their control APIs')
  .showHelpAfterError()
  .exitOverride();

withSettings(program.command('serve').description('run the daemon in the foreground'))
  .option('--print-config', 'print the effective configuration and exit')
  .option('--stop-vms', 'on SIGTERM, take the VMs down too')
  .action((options: Record<string, unknown>) =>
    serve(configFrom(options), { printConfig: options.printConfig === true, stopVms: options.stopVms === true }),
  );

withSettings(
  program.command('doctor').description('say what this host can do, and what to do about what it lacks'),
).action(async (options: Record<string, unknown>) => (await import('./doctor.ts')).doctor(configFrom(options)));

withSettings(
  program.command('teardown').description('take bridge, rules and resolver of a data directory off this host'),
).action(async (options: Record<string, unknown>) => (await import('./teardown.ts')).teardown(configFrom(options)));

program
  .command('demo')
  .description('boot a VM, run code in it, show the result, and leave nothing behind')
  .action(async () => (await import('./demo.ts')).demo(configFrom({})));

const image = program.command('image').description('images: a kernel and a root file system');
withSettings(image.command('build').description('build an image from its recipe into the cache'))
  .argument('<recipe>', 'name of the recipe')
  .action(async (name: string, options: Record<string, unknown>) =>
    (await import('./image.ts')).buildImageCommand(name, configFrom(options)),
  );
const agent = program.command('agent').description('the dstack guest agent');
agent
  .command('dev')
  .description('laptop mode: sockets, keys and simulated quotes without a VM')
  .requiredOption('--dir <directory>', 'where everything is kept, the sockets too')
  .option('--app-keys <file>', "fixed keys instead of the directory's own")
  .option('--app-compose <file>', 'the app; default app-compose.json in the directory')
  .option('--tee <directory>', 'keys of the simulated TEE; default the directory')
  .option('--http <address>', 'address of the HTTP port', '127.0.0.1:0')
  .option('--docker <socket>', 'of the container engine whose logs are shown', '/var/run/docker.sock')
  .action(async (flags: AgentDevFlags) => (await import('./agent.ts')).agentDev(flags));
agent
  .command('run')
  .description('the agent inside a VM')
  .option('--config <file>', 'its settings', '/dstack/agent.json')
  .action(async (flags: { config: string }) => (await import('./agent.ts')).agentRun(flags));

program
  .command('verify')
  .description('check an attestation or a quote and say what was checked')
  .argument('[file]', 'JSON of Attest or GetQuote, or an attestation in hex or bytes; - for standard input')
  .option('--trust <file>', "root and collateral, such as laptop mode's tee-trust.json; default Intel's root")
  .option('--report-data <hex>', 'what the quote must bind')
  .option('--app-id <hex>', 'the app it must be')
  .option('--compose-hash <hex>', 'the hash of app-compose.json it must have')
  .option('--app-compose <file>', 'the app-compose.json it must have')
  .option('--mr-config <file>', 'the document, canonical JSON, that MRCONFIGID of version 3 must be of')
  .option('--os-image-hash <hex>', 'the image it must have booted')
  .option('--key-provider <name>', 'where its keys must come from')
  .option('--mrtd <hex>', 'what its first measurement must be')
  .option('--rtmr0 <hex>', 'what its registers of the boot must be')
  .option('--rtmr1 <hex>')
  .option('--rtmr2 <hex>')
  .option('--json', 'print the report as JSON')
  .option('--listen <address>', 'serve POST /verify at host:port instead')
  .action(async (file: string | undefined, flags: VerifyFlags) => (await import('./verify.ts')).verify(file, flags));

const kms = program.command('kms').description('the key management service of app VMs');
withSealing(kms.command('serve').description('run it in the foreground; its root is made at the first start'))
  .option('--listen <address>', 'for guests, HTTPS', '127.0.0.1:8000')
  .option('--public <address>', 'for those who encrypt environments, plain HTTP and nothing secret')
  .option('--name <host...>', 'host names and addresses in its certificate', [])
  .option('--policy <file>', 'which apps may have keys; default those that are named by their own hash')
  .option('--tee <directory>', 'believe quotes of the simulated TEE of this directory')
  .option('--trust <file>', 'believe quotes by the root and collateral in this file')
  .action(async (flags: KmsServeFlags) => (await import('./kms.ts')).kmsServe(flags));
withSealing(kms.command('backup').description('write the root to a file, under a passphrase of its own'))
  .argument('<file>')
  .requiredOption('--backup-passphrase-file <file>', 'its first line protects the backup')
  .action(async (file: string, flags: KmsBackupFlags) => (await import('./kms.ts')).kmsBackup(file, flags));
withSealing(kms.command('restore').description('put a backup in place where there is no root'))
  .argument('<file>')
  .requiredOption('--backup-passphrase-file <file>', 'its first line opens the backup')
  .action(async (file: string, flags: KmsBackupFlags) => (await import('./kms.ts')).kmsRestore(file, flags));
withSealing(kms.command('reseal').description('seal the same root another way'))
  .option('--to-passphrase-file <file>', 'the new passphrase')
  .option('--to-tpm <tcti>', 'the new TPM')
  .action(async (flags: KmsResealFlags) => (await import('./kms.ts')).kmsReseal(flags));

const token = program.command('token').description('tokens of customers of the metald API');
withSettings(token.command('create').description('make a token for a customer and print it, this once'))
  .requiredOption('--customer <id>', 'whose it is')
  .option('--name <text>', 'what to call it', '')
  .option('--days <count>', 'how long it is good for; default for ever', wholeDays)
  .action(async (options: Record<string, unknown> & { customer: string; name: string; days?: number }) =>
    (await import('./token.ts')).createToken(configFrom(options), { ...options, days: options.days ?? null }),
  );
withSettings(token.command('list').description('show ids, customers and states; never the tokens'))
  .option('--customer <id>', 'of this customer only')
  .action(async (options: Record<string, unknown> & { customer?: string }) =>
    (await import('./token.ts')).listTokens(configFrom(options), options.customer ?? null),
  );
withSettings(token.command('revoke').description('make a token worthless'))
  .argument('<id>', 'as `token list` shows it')
  .action(async (id: string, options: Record<string, unknown>) =>
    (await import('./token.ts')).revokeToken(configFrom(options), id),
  );
withSettings(image.command('warm').description('make the template that VMs of an image and a size are cloned from'))
  .argument('[image]', 'id or name; default: the default image')
  .option('--cpus <count>', 'processors of the VMs', wholeNumber, 1)
  .option('--memory <MiB>', 'memory of the VMs', wholeNumber, 256)
  .action(async (name: string | undefined, options: Record<string, unknown> & { cpus: number; memory: number }) =>
    (await import('./image.ts')).warmImage(configFrom(options), name ?? null, options),
  );

const vm = program.command('vm').description('VMs of the daemon that runs');
withSettings(vm.command('fork').description('copy a running VM, memory included, and print the ids of the copies'))
  .argument('<id>')
  .option('--count <count>', 'copies', wholeNumber, 1)
  .action(async (id: string, options: Record<string, unknown> & { count: number }) =>
    (await import('./vm.ts')).forkVm(configFrom(options), id, options.count),
  );
try {
  await program.parseAsync();
} catch (error) {
  if (error instanceof CommanderError) process.exitCode = error.exitCode;
  else {
    console.error(describeFailure(error) ?? error);
    process.exitCode = 1;
  }
}

/** Adds where the root of a KMS is, and how it is sealed. */
function withSealing(command: Command): Command {
  return command
    .requiredOption('--dir <directory>', 'where the root is kept')
    .option('--passphrase-file <file>', 'the root is sealed by the first line of this file')
    .option('--tpm <tcti>', 'the root is sealed by this TPM, such as device:/dev/tpmrm0');
}

/** Adds `--config` and a flag for every setting. */
function withSettings(command: Command): Command {
  command.option('--config <file>', 'TOML file with settings (also BERTH_CONFIG)');
  for (const key of settingKeys) command.addOption(new Option(`${flagName(key)} <value>`, settings[key].help));
  return command;
}

function configFrom(options: Record<string, unknown>): Config {
  const flags: Partial<Record<SettingKey, unknown>> = {};
  for (const key of settingKeys) {
    const value = options[camelCase(flagName(key).slice(2))];
    if (value !== undefined) flags[key] = value;
  }
  const file = typeof options.config === 'string' ? options.config : (process.env.BERTH_CONFIG ?? null);
  return loadConfig({ file, env: process.env, flags });
}

function wholeDays(text: string): number {
  const days = Number(text);
  if (!Number.isInteger(days) || days < 1 || days > 36_500)
    throw new InvalidArgumentError('must be a whole number of days, from 1 to 36500');
  return days;
}

function wholeNumber(text: string): number {
  const value = Number(text);
  if (!Number.isInteger(value) || value < 1) throw new InvalidArgumentError('must be a whole number, at least 1');
  return value;
}

function camelCase(flag: string): string {
  return flag.replace(/-(\w)/g, (_, letter: string) => letter.toUpperCase());
}
