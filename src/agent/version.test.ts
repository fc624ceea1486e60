import assert from 'node:assert/strict';
import { test } from 'node:test';
import packageJson from '../../package.json' with { type: 'json' };
import { agentVersion } from './version.ts';

test('the revision names the version of this package', () => {
  assert.equal(agentVersion.rev, `berth-${packageJson.version}`);
});
