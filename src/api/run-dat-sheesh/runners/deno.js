// Runs in the guest under Deno, after runners/result.js; called with one request.

const takeExit = Deno.exit.bind(Deno);
const takeWrite = Deno.stderr.writeSync.bind(Deno.stderr);
const takeEncode = TextEncoder.prototype.encode.bind(new TextEncoder());

/**
 * A snippet must be a file in the workspace for its relative imports to work, but need not stay: a module that is
 * evaluated before it, and after all of the graph was read, removes the file.
 */
function snippetEntry(file, code) {
  Deno.writeTextFileSync(file, code, { createNew: true, mode: 0o600 });
  let removed = false;
  const remove = () => {
    if (!removed) Deno.removeSync(file);
    removed = true;
  };
  const slot = `rds:${file}`;
  globalThis[slot] = () => {
    delete globalThis[slot];
    remove();
  };
  const cleanup = `data:text/javascript,${encodeURIComponent(`globalThis[${JSON.stringify(slot)}]()`)}`;
  const source = `import ${JSON.stringify(cleanup)}; import ${JSON.stringify(`file://${file}`)};`;
  return { url: `data:text/javascript,${encodeURIComponent(source)}`, remove };
}

/** request: { marker, maxBytes, file, code } or { marker, maxBytes, file } to run what is in the file. */
// biome-ignore lint/correctness/noUnusedVariables: called from the line that the host appends
async function runProgram({ marker, maxBytes, file, code }) {
  const { fail, frame } = createResult(marker, maxBytes);
  let remove = () => {};
  try {
    if (code === undefined) {
      await import(new URL(`file://${file.split('/').map(encodeURIComponent).join('/')}`).href);
    } else {
      const entry = snippetEntry(file, code);
      remove = entry.remove;
      await import(entry.url);
    }
  } catch (reason) {
    fail(reason);
  } finally {
    remove();
  }
  const { bytes, failed } = frame(takeEncode);
  for (let sent = 0; sent < bytes.length; ) sent += takeWrite(bytes.subarray(sent));
  if (failed) takeExit(1);
}
