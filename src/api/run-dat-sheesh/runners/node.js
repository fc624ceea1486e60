// Runs in the guest under Node (18 or later) as a CommonJS program, after runners/result.js; called with one request.

const fs = require('node:fs');
const Module = require('node:module');
const path = require('node:path');
const { pathToFileURL } = require('node:url');
const vm = require('node:vm');

const takeExit = process.exit.bind(process);
const takeWrite = fs.writeSync.bind(fs);
const takeEncode = TextEncoder.prototype.encode.bind(new TextEncoder());
const takePause = Atomics.wait.bind(Atomics, new Int32Array(new SharedArrayBuffer(4)), 0, 0);

/** Code that does not parse as CommonJS (import, export, top-level await) is a module; so Node 18 sees it like Node 22. */
function isModule(code) {
  try {
    vm.compileFunction(code, ['exports', 'require', 'module', '__filename', '__dirname']);
    return false;
  } catch {
    return true;
  }
}

function runScript(file, code) {
  const script = new Module(file, null);
  script.filename = file;
  script.paths = Module._nodeModulePaths(path.dirname(file));
  script._compile(code, file);
}

/** As under Deno: the file exists while the graph is read, and is removed before any of it runs. */
async function runModule(file, code) {
  fs.writeFileSync(file, code, { flag: 'wx', mode: 0o600 });
  const slot = `rds:${file}`;
  globalThis[slot] = () => {
    delete globalThis[slot];
    fs.rmSync(file, { force: true });
  };
  const cleanup = `data:text/javascript,${encodeURIComponent(`globalThis[${JSON.stringify(slot)}]()`)}`;
  const source = `import ${JSON.stringify(cleanup)}; import ${JSON.stringify(pathToFileURL(file).href)};`;
  try {
    await import(`data:text/javascript,${encodeURIComponent(source)}`);
  } finally {
    if (globalThis[slot] !== undefined) globalThis[slot]();
  }
}

function writeAll(bytes) {
  for (let sent = 0; sent < bytes.length; ) {
    try {
      sent += takeWrite(2, bytes, sent);
    } catch (reason) {
      if (reason.code !== 'EAGAIN') throw reason;
      takePause(1);
    }
  }
}

/** request: { marker, maxBytes, file, code } or { marker, maxBytes, file } to run what is in the file. */
// biome-ignore lint/correctness/noUnusedVariables: called from the line that the host appends
async function runProgram({ marker, maxBytes, file, code }) {
  const { fail, frame } = createResult(marker, maxBytes);
  process.argv = [process.execPath, file, ...process.argv.slice(2)];
  try {
    if (code === undefined) await import(pathToFileURL(file).href);
    else if (isModule(code)) await runModule(`${file}.mjs`, code);
    else runScript(`${file}.cjs`, code);
  } catch (reason) {
    fail(reason);
  }
  const { bytes, failed } = frame(takeEncode);
  writeAll(bytes);
  if (failed) takeExit(1);
}
