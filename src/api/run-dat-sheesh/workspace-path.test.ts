import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { resolveInWorkspace } from './workspace-path.ts';

describe('resolveInWorkspace', () => {
  const rows: readonly [path: string, resolved: string | null][] = [
    ['', '/workspace'],
    [' ', '/workspace'],
    ['.', '/workspace'],
    ['src', '/workspace/src'],
    ['/workspace', '/workspace'],
    ['/workspace/', '/workspace'],
    ['/workspace/a/../b', '/workspace/b'],
    ['..foo', '/workspace/..foo'],
    ['/workspacex', null],
    ['/home/user', null],
    ['/etc', null],
    ['..', null],
    ['a/../../etc', null],
    ['/workspace/../etc', null],
    ['a\0b', null],
  ];
  for (const [path, resolved] of rows) {
    test(JSON.stringify(path), () => assert.equal(resolveInWorkspace(path), resolved));
  }

  test('what it gives is always below and without dots', () => {
    const part = fc.constantFrom('..', '.', 'a', '', 'workspace', ' ', '...');
    fc.assert(
      fc.property(fc.array(part), fc.boolean(), (parts, absolute) => {
        const resolved = resolveInWorkspace(`${absolute ? '/' : ''}${parts.join('/')}`) ?? '/workspace';
        assert.match(resolved, /^\/workspace(\/|$)/);
        assert.ok(!resolved.split('/').includes('..'));
      }),
    );
  });
});
