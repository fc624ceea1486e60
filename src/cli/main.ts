import { Command, CommanderError, Option } from 'commander';
import { loadConfig } from '../daemon/config.ts';
import { type Config, flagName, type SettingKey, settingKeys, settings } from '../daemon/settings.ts';
import { demo } from './demo.ts';
import { doctor } from './doctor.ts';
import { describeFailure } from './failure.ts';
import { buildImageCommand } from './image.ts';
import { serve } from './serve.ts';

// VM processes under other uids read what is made for them. Files that are nobody else's business say so themselves, so
// the mask of whoever starts this must not decide.
process.umask(0o022);

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
).action((options: Record<string, unknown>) => doctor(configFrom(options)));

program
  .command('demo')
  .description('boot a VM, run code in it, show the result, and leave nothing behind')
  .action(() => demo(configFrom({})));

const image = program.command('image').description('images: a kernel and a root file system');
withSettings(image.command('build').description('build an image from its recipe into the cache'))
  .argument('<recipe>', 'name of the recipe')
  .action((name: string, options: Record<string, unknown>) => buildImageCommand(name, configFrom(options)));
try {
  await program.parseAsync();
} catch (error) {
  if (error instanceof CommanderError) process.exitCode = error.exitCode;
  else {
    console.error(describeFailure(error) ?? error);
    process.exitCode = 1;
  }
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

function camelCase(flag: string): string {
  return flag.replace(/-(\w)/g, (_, letter: string) => letter.toUpperCase());
}
