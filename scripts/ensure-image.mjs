/** Builds an image into the cache unless it is there: `node scripts/ensure-image.mjs <recipe>`. */

import { buildImage } from '../src/image/build.ts';
import { Steps } from './setup/steps.mjs';

const [name = 'sandbox'] = process.argv.slice(2);
const abort = new AbortController();
let interrupted = null;
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) {
  process.on(signal, () => {
    interrupted = signal;
    abort.abort();
  });
}

try {
  await new Steps().run(`${name} image`, (step) =>
    buildImage(name, {
      signal: abort.signal,
      onProgress: ({ phase, detail }) => step.progress(phase === detail ? phase : `${phase}: ${detail}`),
    }),
  );
} catch (error) {
  console.error(
    interrupted === null ? error.message : `the build was stopped by ${interrupted}; nothing of it was kept`,
  );
  process.exitCode = 1;
}
