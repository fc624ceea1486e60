/** Calls as spans of OpenTelemetry, sent to a collector. Loaded only where a collector is set. */

import { type Context, ROOT_CONTEXT, SpanKind, SpanStatusCode, trace } from '@opentelemetry/api';
import { OTLPTraceExporter } from '@opentelemetry/exporter-trace-otlp-http';
import { resourceFromAttributes } from '@opentelemetry/resources';
import { BasicTracerProvider, BatchSpanProcessor } from '@opentelemetry/sdk-trace-base';
import type { Log } from '../../common/log.ts';
import { codeName } from './errors.ts';
import type { CallTracer } from './ports.ts';

/** W3C's header: version, trace, span, flags. */
const traceparentPattern = /^00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})$/;

/** How long a collector may take, with all attempts, ms; what it has not taken by then is dropped. */
const exportTimeoutMs = 2000;

/** @param url of the collector's OTLP over HTTP, e.g. `http://127.0.0.1:4318/v1/traces` */
export function openTraces(url: string, version: string, log: Log): CallTracer {
  const exporter = new OTLPTraceExporter({ url, timeoutMillis: exportTimeoutMs });
  const provider = new BasicTracerProvider({
    resource: resourceFromAttributes({ 'service.name': 'metald', 'service.version': version }),
    spanProcessors: [new BatchSpanProcessor(exporter)],
  });
  const tracer = provider.getTracer('berth', version);
  return {
    begin({ path, customer, vmId, traceparent }) {
      const [service = '', method = ''] = path.slice(1).split('/');
      const attributes = {
        'rpc.system': 'connect_rpc',
        'rpc.service': service,
        'rpc.method': method,
        customer_id: customer,
        ...(vmId === undefined ? {} : { vm_id: vmId }),
      };
      const options = { kind: SpanKind.SERVER, attributes };
      const span = tracer.startSpan(`${service}/${method}`, options, parentOf(traceparent));
      return (failure) => {
        if (failure !== null) {
          const code = codeName(failure.code);
          span.setAttribute('rpc.connect_rpc.error_code', code);
          span.setStatus({ code: SpanStatusCode.ERROR, message: code });
        }
        span.end();
      };
    },
    async close() {
      try {
        await provider.shutdown();
      } catch (error) {
        log.warn({ err: error }, 'the last spans could not be sent');
      }
    },
  };
}

function parentOf(traceparent: string | undefined): Context {
  const [, traceId, spanId, flags] = traceparentPattern.exec(traceparent ?? '') ?? [];
  if (traceId === undefined || spanId === undefined || flags === undefined) return ROOT_CONTEXT;
  const traceFlags = Number.parseInt(flags, 16);
  return trace.setSpanContext(ROOT_CONTEXT, { traceId, spanId, traceFlags, isRemote: true });
}
