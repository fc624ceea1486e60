import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { Json } from './test-api.ts';

/** A collector of OpenTelemetry on a port of its own: OTLP over HTTP, in JSON. */
export interface Collector extends Disposable {
  readonly url: string;
  /** The spans it was sent, as OTLP has them. */
  readonly spans: readonly Json[];
  /** All it was sent, headers included, as text. */
  received(): string;
}

export async function openCollector(): Promise<Collector> {
  const spans: Json[] = [];
  const texts: string[] = [];
  const server = createServer(async (request, response) => {
    const chunks: Buffer[] = [];
    for await (const chunk of request) chunks.push(chunk as Buffer);
    const text = Buffer.concat(chunks).toString('utf8');
    texts.push(JSON.stringify(request.headers), text);
    for (const { scopeSpans } of JSON.parse(text).resourceSpans)
      for (const scope of scopeSpans) spans.push(...scope.spans);
    response.setHeader('content-type', 'application/json');
    response.end('{}');
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    spans,
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/v1/traces`,
    received: () => texts.join('\n'),
    [Symbol.dispose]() {
      server.closeAllConnections();
      server.close();
    },
  };
}

/** The text of an attribute; undefined when a span has none of that name. */
export function attribute(span: Json, key: string): string | undefined {
  return span.attributes.find((item: Json) => item.key === key)?.value.stringValue;
}
