import { readFileSync } from 'node:fs';
import type { FastifyInstance } from 'fastify';

const placeholder = '<!-- operations -->';

function escapeHtml(text: string): string {
  return text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;').replaceAll('"', '&quot;');
}

interface Described {
  readonly operationId?: string;
  readonly summary?: string;
}

/** One table row per operation of the OpenAPI document. */
function operationRows(paths: Readonly<Record<string, Readonly<Record<string, Described>>>>): string {
  return Object.entries(paths)
    .flatMap(([path, item]) =>
      Object.entries(item).map(
        ([method, { summary = '' }]) =>
          `<tr><td><code>${method.toUpperCase()} ${escapeHtml(path)}</code></td><td>${escapeHtml(summary)}</td></tr>`,
      ),
    )
    .join('\n');
}

/** The quick start at /docs: one page, with a table made from the same document as /openapi.json. */
export function registerDocs(app: FastifyInstance): void {
  const template = readFileSync(new URL('./docs.html', import.meta.url), 'utf8');
  let page: string | undefined;
  for (const path of ['/docs', '/docs/*']) {
    app.get(path, (_request, reply) => {
      page ??= template.replace(placeholder, () =>
        operationRows(app.swagger().paths as Record<string, Record<string, Described>>),
      );
      reply
        .type('text/html; charset=utf-8')
        .header('content-security-policy', "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'")
        .send(page);
    });
  }
}
