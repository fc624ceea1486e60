import assert from 'node:assert/strict';
import { mkdir, mkdtemp, readdir, realpath, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { runJavaScript } from './run-js.ts';
import { denoFlags, runTypeScript } from './run-ts.ts';
import { defaultLimits } from './settings.ts';
import { LocalGuest } from './testing/local-guest.ts';

interface Ran {
  readonly exitCode: number;
  readonly stdout: string;
  readonly stderr: string;
  readonly result: unknown;
  readonly error: unknown;
}

let root: string;
let directory: string;
let guest: LocalGuest;

before(async () => {
  root = await realpath(await mkdtemp(join(tmpdir(), 'run-programs-')));
  directory = join(root, 'workspace');
  await mkdir(join(directory, 'project'), { recursive: true });
  await writeFile(join(directory, 'five.ts'), 'export const five: number = 5;');
  await writeFile(join(directory, 'five.cjs'), 'module.exports = 5;');
  await writeFile(join(directory, 'five.mjs'), 'export const five = 5;');
  await writeFile(join(directory, 'project/main.ts'), 'import { five } from "../five.ts"; result.set(five);');
  await writeFile(join(directory, 'project/main.cjs'), 'result.set(require("../five.cjs"));');
  guest = new LocalGuest(directory);
});

after(() => rm(root, { recursive: true, force: true }));

function parsed(json: string | null): unknown {
  return json === null ? undefined : JSON.parse(json);
}

async function ts(code: string, more: object = {}): Promise<Ran> {
  const body = { code, ...more, denoFlags: [`--allow-read=${directory}`, `--allow-write=${directory}`] };
  const { result, error, guestMicros: _, ...rest } = await runTypeScript(guest, body, false, defaultLimits);
  return { ...rest, result: parsed(result), error: parsed(error) };
}

async function js(code: string, more: object = {}): Promise<Ran> {
  const { result, error, guestMicros: _, ...rest } = await runJavaScript(guest, { code, ...more }, defaultLimits);
  return { ...rest, result: parsed(result), error: parsed(error) };
}

const languages = [
  ['run-ts', ts],
  ['run-js', js],
] as const;

for (const [name, run] of languages) {
  describe(name, () => {
    const results: readonly [code: string, result: unknown][] = [
      ['1', undefined],
      ['result.set({ ok: true, n: 42 })', { ok: true, n: 42 }],
      ['result.set({ a: 1 }); result.set({ b: 2 })', { b: 2 }],
      ['result.set(42)', 42],
      ['result.set(false)', false],
      ['result.set(null)', null],
      ['result.set("hi")', 'hi'],
      ['result.set([1, 2])', [1, 2]],
      ['result.set(undefined)', undefined],
      ['result.set(12345678901234567890n)', '12345678901234567890'],
      ['const o = {}; o.self = o; result.set(o)', { self: '[Circular]' }],
      ['const p = { x: 1 }; result.set([p, p])', [{ x: 1 }, { x: 1 }]],
      ['result.set(new Date(0))', '1970-01-01T00:00:00.000Z'],
      ['result.set(new Map([[1, 2]]))', {}],
      ['result.set("\\u2028 ü \\n 😀")', '\u2028 ü \n 😀'],
      ['setTimeout(() => result.set("late"), 5)', undefined],
      ['JSON.stringify = () => "stolen"; result.set({ a: 1 })', { a: 1 }],
    ];
    for (const [code, result] of results) {
      test(`the result of ${code}`, async () => {
        assert.deepEqual(await run(code), {
          exitCode: 0,
          stdout: '',
          stderr: '',
          truncated: false,
          timedOut: false,
          result,
          error: undefined,
        });
      });
    }

    test('output, arguments and environment', async () => {
      const args = name === 'run-ts' ? 'Deno.args' : 'process.argv.slice(2)';
      const variable = name === 'run-ts' ? 'Deno.env.get("KEY")' : 'process.env.KEY';
      const code = `console.log(${args}.join("|"), ${variable}); console.error("aside")`;
      const ran = await run(code, { args: ['a b', '--quiet'], env: ['KEY=v=1'] });
      assert.equal(ran.stdout, 'a b|--quiet v=1\n');
      assert.equal(ran.stderr, 'aside\n');
      assert.equal(ran.exitCode, 0);
    });

    test('a thrown error is the error, and standard error stays empty', async () => {
      const ran = await run('console.log("x"); throw new TypeError("boom")');
      const error = ran.error as { name: string; message: string; stack: string };
      assert.equal(ran.exitCode, 1);
      assert.equal(ran.stderr, '');
      assert.equal(ran.stdout, 'x\n');
      assert.equal(error.name, 'TypeError');
      assert.equal(error.message, 'boom');
      assert.match(error.stack, /TypeError: boom\n\s+at /);
    });

    test('a syntax error is the error', async () => {
      const ran = await run('let let = 1 +;');
      assert.equal(ran.exitCode, 1);
      assert.equal(ran.stderr, '');
      assert.notEqual(ran.error, undefined);
    });

    const errors: readonly [code: string, error: unknown][] = [
      ['result.error("x")', { name: 'Error', message: 'x' }],
      ['result.error(7)', { name: 'Error', message: '7' }],
      ['result.error({ code: 5 })', { code: 5 }],
      ['throw "text"', { name: 'Error', message: 'text' }],
    ];
    for (const [code, error] of errors) {
      test(`the error of ${code}`, async () => {
        const ran = await run(code);
        assert.deepEqual(ran.error, error);
        assert.equal(ran.exitCode, 1);
      });
    }

    test('result.error does not stop the program, and goes with a result', async () => {
      const ran = await run('result.error("x"); console.log("on"); result.set(1)');
      assert.deepEqual(ran, { ...ran, exitCode: 1, stdout: 'on\n', result: 1, error: { name: 'Error', message: 'x' } });
    });

    test('the exit code of the program, whose result is then lost', async () => {
      const exit = name === 'run-ts' ? 'Deno.exit' : 'process.exit';
      const ran = await run(`result.set(1); ${exit}(7)`);
      assert.equal(ran.exitCode, 7);
      assert.equal(ran.result, undefined);
    });

    test('a throw in a timer is told on standard error', async () => {
      const ran = await run('setTimeout(() => { throw new Error("later") }, 1)');
      assert.equal(ran.exitCode, 1);
      assert.match(ran.stderr, /later/);
      assert.equal(ran.error, undefined);
    });

    test('a result that is too large is an error', async () => {
      const ran = await run('result.set("x".repeat(1024 * 1024))');
      assert.equal(ran.exitCode, 1);
      assert.deepEqual(ran.error, { name: 'RangeError', message: 'The result is larger than 1048576 bytes' });
    });

    test('nothing of the runner stays in the workspace, nor is it there while the program runs', async () => {
      const list = name === 'run-ts' ? `[...Deno.readDirSync(".")].map((e) => e.name)` : `fs.readdirSync(".")`;
      const prelude = name === 'run-ts' ? '' : 'const fs = await import("node:fs"); ';
      const ran = await run(`await 0; ${prelude}result.set(${list}.sort())`);
      assert.deepEqual(ran.result, (await readdir(directory)).sort());
      await run('throw new Error("x")');
      await run('import "./missing.mjs"');
      assert.deepEqual(
        (await readdir(directory)).filter((file) => file.startsWith('.')),
        [],
      );
    });
  });
}

describe('run-ts', () => {
  test('types, static and relative imports, top-level await', async () => {
    const ran = await ts(
      'import { five } from "./five.ts"; const n: number = await Promise.resolve(five); result.set(n)',
    );
    assert.equal(ran.result, 5);
  });

  test('a program in a file runs in its directory, and wins over code', async () => {
    const ran = await ts('result.set("code")', { path: 'project/main.ts' });
    assert.equal(ran.result, 5);
  });

  test('a missing file is an error of the program', async () => {
    const ran = await ts('1', { path: '/workspace/none/missing.ts' });
    const error = ran.error as { name: string; message: string };
    assert.equal(ran.exitCode, 1);
    assert.equal(error.name, 'TypeError');
    assert.match(error.message, /Module not found/);
    assert.equal(ran.stderr, '');
  });

  test('the network is denied without prompt', async () => {
    const ran = await ts('await fetch("http://127.0.0.1:65000/")');
    const error = ran.error as { name: string; message: string };
    assert.equal(error.name, 'NotCapable');
    assert.match(error.message, /Requires net access to "127.0.0.1:65000", run again with the --allow-net flag/);
  });

  test('only the given variables can be read', async () => {
    const ran = await ts(
      'result.set([Deno.env.get("A"), (() => { try { return Deno.env.get("HOME") } catch { return "no" } })()])',
      {
        env: ['A=1'],
      },
    );
    assert.deepEqual(ran.result, ['1', 'no']);
  });

  test('colours are taken out', async () => {
    const ran = await ts('console.log("\\x1b[31mred\\x1b[0m")');
    assert.equal(ran.stdout, 'red\n');
  });

  test('permissions', () => {
    assert.ok(denoFlags([], {}, true).includes('--allow-net'));
    assert.ok(!denoFlags([], {}, false).includes('--allow-net'));
    assert.ok(denoFlags([], {}, false).includes('--allow-env'));
    assert.ok(denoFlags([], { A: '', B: '' }, false).includes('--allow-env=A,B'));
    assert.deepEqual(denoFlags(['--allow-all'], {}, false), ['run', '--quiet', '--allow-all', '-']);
    assert.deepEqual(denoFlags(['--unstable-kv'], {}, false).slice(-2), ['--unstable-kv', '-']);
  });
});

describe('run-js', () => {
  test('CommonJS with relative require', async () => {
    const ran = await js('const five = require("./five.cjs"); result.set([five, typeof module, typeof runProgram])');
    assert.deepEqual(ran.result, [5, 'object', 'undefined']);
  });

  test('modules with static imports and top-level await', async () => {
    const ran = await js('import { five } from "./five.mjs"; result.set(await Promise.resolve(five))');
    assert.equal(ran.result, 5);
  });

  test('a program in a file', async () => {
    const ran = await js('', { path: '/workspace/project/main.cjs' });
    assert.equal(ran.result, 5);
  });
});
