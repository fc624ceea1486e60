import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, it } from 'node:test';
import { ConfigError, loadConfig, printConfig } from './config.ts';
import { environmentName, settingKeys } from './settings.ts';

const dir = mkdtempSync(join(tmpdir(), 'berth-config-'));
after(() => rmSync(dir, { recursive: true }));

function file(text: string): string {
  const path = join(dir, 'berth.toml');
  writeFileSync(path, text);
  return path;
}

const none = { file: null, env: {}, flags: {} };

describe('configuration', () => {
  it('has defaults for everything', () => {
    const config = loadConfig(none);
    assert.equal(config['listen.run_dat_sheesh'], '127.0.0.1:3000');
    assert.equal(config['network.address'], '172.16.0.1/24');
    assert.ok(config.home.startsWith('/'));
  });

  it('takes the file, then the environment, then flags', () => {
    const path = file('home = "/a"\n[engine]\nconcurrent_boots = 1\nboot_timeout_seconds = 5\naccel = "kvm"\n');
    const config = loadConfig({
      file: path,
      env: { BERTH_ENGINE_CONCURRENT_BOOTS: '2', BERTH_ENGINE_ACCEL: 'tcg' },
      flags: { 'engine.concurrent_boots': '3' },
    });
    assert.equal(config.home, '/a');
    assert.equal(config['engine.boot_timeout_seconds'], 5);
    assert.equal(config['engine.accel'], 'tcg');
    assert.equal(config['engine.concurrent_boots'], 3);
  });

  for (const [name, sources] of [
    ['an unknown key in the file', () => ({ ...none, file: file('[engine]\nspeed = 9\n') })],
    ['an unknown section in the file', () => ({ ...none, file: file('[warp]\nspeed = 9\n') })],
    ['a file that is no TOML', () => ({ ...none, file: file('= 9') })],
    ['a missing file', () => ({ ...none, file: join(dir, 'missing.toml') })],
    ['an unknown variable', () => ({ ...none, env: { BERTH_SPEED: '9' } })],
    ['a number that is none', () => ({ ...none, env: { BERTH_QUOTA_MAX_VMS: 'many' } })],
    ['a switch for a number', () => ({ ...none, file: file('[quota]\nmax_vms = true\n') })],
    ['a fraction', () => ({ ...none, file: file('[quota]\nmax_vms = 1.5\n') })],
    ['blanks for a number', () => ({ ...none, env: { BERTH_QUOTA_MAX_VMS: ' ' } })],
    ['a time that no timer holds', () => ({ ...none, flags: { 'engine.boot_timeout_seconds': '3000000' } })],
    ['a negative number', () => ({ ...none, flags: { 'quota.max_vms': '-1' } })],
    ['an address without a port', () => ({ ...none, env: { BERTH_LISTEN_RUN_DAT_SHEESH: 'localhost' } })],
    ['a bridge name that no bridge may have', () => ({ ...none, env: { BERTH_NETWORK_BRIDGE: 'br-0' } })],
    ['a proxy that is no address', () => ({ ...none, env: { BERTH_RUN_DAT_SHEESH_TRUSTED_PROXIES: 'all' } })],
    ['a disk that is given to nobody', () => ({ ...none, flags: { 'quota.disk_overcommit': '0' } })],
    ['an unknown choice', () => ({ ...none, env: { BERTH_ENGINE_ACCEL: 'magic' } })],
  ] as const) {
    it(`refuses ${name}`, () => {
      assert.throws(() => loadConfig(sources()), ConfigError);
    });
  }

  it('prints what it can read again, without secrets', () => {
    const config = loadConfig({ ...none, env: { BERTH_API_KEY: 'hush', BERTH_NETWORK_UPSTREAM: '127.0.0.53,::1' } });
    const text = printConfig(config);
    assert.ok(!text.includes('hush'));
    assert.deepEqual(loadConfig({ ...none, file: file(text) }), { ...config, api_key: '' });
  });

  it('has a variable of its own for every setting', () => {
    assert.equal(new Set(settingKeys.map(environmentName)).size, settingKeys.length);
  });
});
