// Emits one call, one commit and one span of a call through the OpenTelemetry SDK, over the protocol that
// OTEL_EXPORTER_OTLP_PROTOCOL names. Endpoint and headers come from the environment, as for every user.
import { resourceFromAttributes } from "@opentelemetry/resources";
import { BatchLogRecordProcessor, LoggerProvider } from "@opentelemetry/sdk-logs";
import { MeterProvider, PeriodicExportingMetricReader } from "@opentelemetry/sdk-metrics";
import * as trace from "@opentelemetry/sdk-trace";

const protocol = process.env.OTEL_EXPORTER_OTLP_PROTOCOL;
const kind = { grpc: "grpc", "http/json": "http", "http/protobuf": "proto" }[protocol];
const { OTLPLogExporter } = await import(`@opentelemetry/exporter-logs-otlp-${kind}`);
const { OTLPMetricExporter } = await import(`@opentelemetry/exporter-metrics-otlp-${kind}`);
const { OTLPTraceExporter } = await import(`@opentelemetry/exporter-trace-otlp-${kind}`);

const id = process.env.CALL_ID;
const resource = resourceFromAttributes({ "service.name": "claude-code" });

const logs = new LoggerProvider({ resource, processors: [new BatchLogRecordProcessor({ exporter: new OTLPLogExporter() })] });
logs.getLogger("com.anthropic.claude_code.events").emit({
  body: "claude_code.api_request",
  attributes: {
    "event.name": "api_request", "event.timestamp": "2026-11-22T10:00:00.000Z", "session.id": `session-${id}`,
    model: "claude-sonnet-5-5", input_tokens: 10, output_tokens: 20, cache_read_tokens: 30,
    cache_creation_tokens: 40, cost_usd: 0.001, duration_ms: 1500, request_id: `req_log_${id}`,
    prompt: "CANARY-of-the-sdk",
  },
});

const reader = new PeriodicExportingMetricReader({ exporter: new OTLPMetricExporter(), exportIntervalMillis: 60_000 });
const metrics = new MeterProvider({ resource, readers: [reader] });
metrics.getMeter("com.anthropic.claude_code").createCounter("claude_code.commit.count").add(3, { "session.id": `session-${id}` });


const spans = new trace.TracerProvider({ resource, spanProcessors: [new trace.BatchSpanProcessor({ exporter: new OTLPTraceExporter() })] });
spans.getTracer("any-sdk").startSpan("chat gpt-5", {
  startTime: new Date("2026-11-22T10:00:00Z"),
  attributes: {
    "gen_ai.operation.name": "chat", "gen_ai.provider.name": "openai", "gen_ai.response.model": "gpt-5",
    "gen_ai.response.id": `resp_${id}`, "gen_ai.usage.input_tokens": 100, "gen_ai.usage.output_tokens": 7,
  },
}).end(new Date("2026-11-22T10:00:01Z"));

for (const provider of [logs, metrics, spans]) {
  await provider.forceFlush();
  await provider.shutdown();
}
