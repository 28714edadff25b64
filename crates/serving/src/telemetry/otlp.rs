//! Sends traces to an OpenTelemetry collector, by OTLP over gRPC.
//!
//! A trace is built from the record when its request ends: one span for the request, and a child for
//! each stage. The SDK's own thread sends them in batches. If its buffer is full, traces are dropped,
//! so that no request waits for a collector.

use std::time::{Instant, SystemTime};

use opentelemetry::trace::{
    Span, SpanBuilder, SpanContext, SpanId, SpanKind, Status, TraceContextExt, TraceFlags, TraceId,
    TraceState, TracerProvider,
};
use opentelemetry::{Context, KeyValue};
use opentelemetry_otlp::{SpanExporter, WithExportConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{Sampler, SdkTracer, SdkTracerProvider};

use super::OtlpOptions;
use super::record::{Finished, RequestRecord};
use base::error::{Code, Result, ServingError};

/// The service name of the traces, unless [`SERVICE_NAME_VARIABLE`] sets another.
const SERVICE_NAME: &str = "onnx_model_server";
const SERVICE_NAME_VARIABLE: &str = "OTEL_SERVICE_NAME";

/// Sends traces.
#[derive(Debug)]
pub(super) struct Tracer {
    provider: SdkTracerProvider,
    tracer: SdkTracer,
}

impl Tracer {
    /// A tracer for this collector, which need not be running yet. Has to be called within a runtime.
    ///
    /// # Errors
    ///
    /// `INVALID_ARGUMENT` if the endpoint is not an `http://` URL.
    pub(super) fn try_new(options: &OtlpOptions) -> Result<Self> {
        let refused = |reason: &str| {
            let endpoint = &options.endpoint;
            ServingError::invalid_argument(format!("--otlp_endpoint={endpoint}: {reason}"))
        };
        if !options.endpoint.starts_with("http://") {
            return Err(refused("expected http://host:port"));
        }
        let exporter = SpanExporter::builder()
            .with_tonic()
            .with_endpoint(&options.endpoint)
            .build()
            .map_err(|error| refused(&error.to_string()))?;
        let mut resource = Resource::builder()
            .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")));
        if std::env::var_os(SERVICE_NAME_VARIABLE).is_none() {
            resource = resource.with_service_name(SERVICE_NAME);
        }
        let share = Sampler::TraceIdRatioBased(options.sampling_rate);
        let provider = SdkTracerProvider::builder()
            .with_batch_exporter(exporter)
            .with_sampler(Sampler::ParentBased(Box::new(share)))
            .with_resource(resource.build())
            .build();
        let tracer = provider.tracer(SERVICE_NAME);
        Ok(Self { provider, tracer })
    }

    /// Passes the request's spans to the sender, if the trace is to be recorded. Returns the trace's
    /// id.
    pub(super) fn export(&self, record: &RequestRecord, finished: &Finished) -> Option<u128> {
        let parent = parent_context(record);
        let at = |moment: Instant| clock(record, moment);
        let mut span = SpanBuilder::from_name(span_name(record, finished))
            .with_kind(SpanKind::Server)
            .with_start_time(record.began_at)
            .start_with_context(&self.tracer, &parent);
        let trace_id = u128::from_be_bytes(span.span_context().trace_id().to_bytes());
        if !span.is_recording() {
            return Some(trace_id);
        }
        span.set_attributes(attributes(record, finished));
        if finished.is_error() {
            let code = finished.details.code.unwrap_or(Code::Unknown);
            span.set_status(Status::error(code.name()));
        }
        let context = parent.with_span(span);
        for &(stage, from, to) in &finished.details.stages {
            SpanBuilder::from_name(stage.name())
                .with_start_time(at(from))
                .start_with_context(&self.tracer, &context)
                .end_with_timestamp(at(to));
        }
        context
            .span()
            .end_with_timestamp(record.began_at + finished.elapsed);
        Some(trace_id)
    }

    /// Sends the remaining traces. Can block until the sender gives up.
    pub(super) fn shutdown(&self) {
        if let Err(error) = self.provider.shutdown() {
            tracing::warn!(%error, "traces were lost");
        }
    }
}

/// The parent of the trace, from the client's headers.
fn parent_context(record: &RequestRecord) -> Context {
    let Some(parent) = record.head.parent else {
        return Context::new();
    };
    let state = record.head.trace_state.as_deref();
    let state = state.and_then(|state| state.parse::<TraceState>().ok());
    Context::new().with_remote_span_context(SpanContext::new(
        TraceId::from(parent.trace_id),
        SpanId::from(parent.span_id),
        TraceFlags::new(parent.flags),
        true,
        state.unwrap_or_default(),
    ))
}

fn clock(record: &RequestRecord, moment: Instant) -> SystemTime {
    record.began_at + moment.saturating_duration_since(record.began)
}

/// The name of the span. Conventions ask for few different names, so it does not contain the model.
fn span_name(record: &RequestRecord, finished: &Finished) -> String {
    match record.head.protocol {
        "grpc" => record.head.path.trim_start_matches('/').to_owned(),
        _ => match finished.details.api {
            Some(api) => format!("{} {api}", record.head.method),
            None => record.head.method.clone(),
        },
    }
}

/// The attributes of the span, with OpenTelemetry's semantic names where they exist.
fn attributes(record: &RequestRecord, finished: &Finished) -> Vec<KeyValue> {
    let (head, details) = (&record.head, &finished.details);
    let mut attributes = vec![
        KeyValue::new("http.request.body.size", as_i64(finished.bytes_in)),
        KeyValue::new("http.response.body.size", as_i64(finished.bytes_out)),
        KeyValue::new("onnx_model_server.request_id", head.id.to_string()),
    ];
    if head.protocol == "grpc" {
        attributes.push(KeyValue::new("rpc.system", "grpc"));
        if let Some(code) = details.code {
            attributes.push(KeyValue::new("rpc.grpc.status_code", code as i64));
        }
        if let Some((service, method)) = head.path.trim_start_matches('/').split_once('/') {
            attributes.push(KeyValue::new("rpc.service", service.to_owned()));
            attributes.push(KeyValue::new("rpc.method", method.to_owned()));
        }
    } else {
        attributes.push(KeyValue::new("http.request.method", head.method.clone()));
        attributes.push(KeyValue::new("url.path", head.path.clone()));
        let status = details.http_status.map(i64::from);
        attributes.extend(status.map(|it| KeyValue::new("http.response.status_code", it)));
    }
    let texts = [
        ("onnx_model_server.model", &details.model),
        ("onnx_model_server.signature", &details.signature),
        ("enduser.id", &details.identity),
    ];
    for (key, text) in texts {
        attributes.extend(text.clone().map(|text| KeyValue::new(key, text)));
    }
    let version = details.version;
    attributes.extend(version.map(|it| KeyValue::new("onnx_model_server.version", it)));
    attributes
}

fn as_i64(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
