// Sends one trace with an unmodified OpenTelemetry SDK and prints its id.
//
//   node send.mjs http://127.0.0.1:4318/v1/traces proto|json

import { context, SpanStatusCode, trace } from "@opentelemetry/api";
import { OTLPTraceExporter as JsonExporter } from "@opentelemetry/exporter-trace-otlp-http";
import { OTLPTraceExporter as ProtoExporter } from "@opentelemetry/exporter-trace-otlp-proto";
import { resourceFromAttributes } from "@opentelemetry/resources";
import { BatchSpanProcessor, NodeTracerProvider } from "@opentelemetry/sdk-trace-node";

const [url, encoding] = process.argv.slice(2);
const Exporter = { json: JsonExporter, proto: ProtoExporter }[encoding];
const provider = new NodeTracerProvider({
  resource: resourceFromAttributes({ "service.name": "node-shop" }),
  spanProcessors: [new BatchSpanProcessor(new Exporter({ url, compression: encoding === "proto" ? "gzip" : "none" }))],
});
const tracer = provider.getTracer("send");

const root = tracer.startSpan("checkout", { attributes: { "cart.items": 3, "cart.tags": ["new", "gift"], "cart.total": 12.5 } });
const inside = trace.setSpan(context.active(), root);
const pay = tracer.startSpan("pay", { attributes: { "card.present": false } }, inside);
pay.setStatus({ code: SpanStatusCode.ERROR, message: "no money" });
pay.end();
root.end();

await provider.forceFlush();
await provider.shutdown();
console.log(root.spanContext().traceId);
