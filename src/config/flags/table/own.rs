//! This server's own flags.

use super::Effect::Real;
use super::{Definition, row};

pub(super) const FLAGS: &[Definition] = &[
    row!(
        backend,
        String,
        Real,
        "The backend that runs models: onnxruntime, tract, or auto. auto takes ONNX Runtime if \
         its library is found, otherwise tract if this program was built with it"
    ),
    row!(
        onnxruntime_library,
        String,
        Real,
        "Path of the ONNX Runtime shared library. Empty: ORT_DYLIB_PATH, then next to the \
         executable or in ../lib, then the system's libonnxruntime.so"
    ),
    row!(
        onnxruntime_allow_spinning,
        Bool,
        Real,
        "Let idle threads of ONNX Runtime spin before they sleep: shorter runs, busier CPUs"
    ),
    row!(
        synthesize_warmup,
        Bool,
        Real,
        "Run each graph once on zeros before a version without a warmup file becomes available"
    ),
    row!(
        wait_for_models,
        Bool,
        Real,
        "Open the ports only when every model has an available version. false opens them \
         immediately"
    ),
    row!(
        enable_model_listing,
        Bool,
        Real,
        "Answer GET /v1/models with a list of the models. false answers with an error, as \
         TensorFlow Serving does"
    ),
    row!(
        rest_api_enable_response_compression,
        Bool,
        Real,
        "Send gzip to REST clients that accept it"
    ),
    row!(
        rest_api_response_compression_min_bytes,
        Int32,
        Real,
        "Compress REST responses of at least this size, if compression is enabled"
    ),
    row!(
        adaptive_batching,
        Bool,
        Real,
        "Wait for more requests only while a batch is running, and cap the batch size where \
         larger batches stop being faster"
    ),
    row!(
        rest_api_use_ssl,
        Bool,
        Real,
        "Serve the REST API over TLS as well, with --ssl_config_file"
    ),
    row!(
        auth_config_file,
        String,
        Real,
        "Text file with an AuthConfig message, read again when it changes. Empty: no \
         authentication"
    ),
    row!(
        model_base_path_allowlist,
        String,
        Real,
        "Comma-separated folders. HandleReloadConfigRequest is refused for base paths outside \
         them. Empty: no restriction"
    ),
    row!(
        log_format,
        String,
        Real,
        "text writes TensorFlow's lines, json writes one object per event"
    ),
    row!(
        access_log,
        String,
        Real,
        "Which requests to log: off, errors, sampled (errors and a share of the others) or all"
    ),
    row!(
        access_log_sampling_rate,
        Float,
        Real,
        "The share of requests that --access_log=sampled logs, from 0 to 1"
    ),
    row!(
        otlp_endpoint,
        String,
        Real,
        "Send traces to this OpenTelemetry collector by gRPC, for example http://host:4317. \
         Empty: no traces"
    ),
    row!(
        otlp_sampling_rate,
        Float,
        Real,
        "Share of requests to trace, from 0 to 1, unless the client has decided"
    ),
    row!(
        request_log_max_file_bytes,
        Int64,
        Real,
        "Start a new file of logging_config at this size"
    ),
    row!(
        request_log_path_allowlist,
        String,
        Real,
        "Comma-separated folders. A logging_config is refused if it writes outside them. Empty: \
         no restriction"
    ),
    row!(
        grpc_host,
        String,
        Real,
        "Address or host name for --port. Empty: all IPv4 interfaces"
    ),
    row!(
        rest_api_host,
        String,
        Real,
        "Address or host name for --rest_api_port. Empty: all interfaces"
    ),
    row!(
        admin_port,
        Int32,
        Real,
        "TCP port for health, metrics and model states over HTTP, open from the start. 0 disables \
         it"
    ),
    row!(
        admin_host,
        String,
        Real,
        "Address or host name for --admin_port. Empty: the value of --rest_api_host"
    ),
    row!(
        drain_timeout_seconds,
        Int32,
        Real,
        "How long requests in flight can take to finish after SIGTERM or SIGINT"
    ),
    row!(
        max_connections,
        Int32,
        Real,
        "Maximum number of connections per port. At the limit, a new connection replaces the one \
         that has waited longest for its client"
    ),
    row!(
        max_concurrent_requests,
        Int32,
        Real,
        "Maximum number of requests in flight. Further requests are refused"
    ),
    row!(
        max_bytes_in_flight,
        Int64,
        Real,
        "Maximum number of bytes of all requests in flight. Further requests are refused. 0: half \
         of the available memory"
    ),
    row!(
        companion_files_wait_seconds,
        Int32,
        Real,
        "How long a new version waits for files that the serving version has and it lacks, such \
         as a signature map, before it loads without them. 0 disables the wait"
    ),
    row!(
        model_memory_limit_mb,
        Int64,
        Real,
        "Refuse to load a model if that could push resident memory above this many MiB. 0 means \
         unlimited"
    ),
    row!(
        model_load_timeout_seconds,
        Int32,
        Real,
        "Give up a load after this time, so that other loads can go on. 0 means never"
    ),
    row!(
        max_request_bytes,
        Int32,
        Real,
        "Maximum size of a gRPC message or a REST body, before decompression"
    ),
    row!(
        max_decompressed_bytes,
        Int32,
        Real,
        "Maximum size of a decompressed request. 0: 100 MiB for REST, as TensorFlow Serving; \
         --max_request_bytes for gRPC"
    ),
    row!(
        max_header_bytes,
        Int32,
        Real,
        "Maximum size of a request's headers. 0: 64 KiB"
    ),
    row!(
        rest_api_max_json_depth,
        Int32,
        Real,
        "Maximum nesting depth of the JSON of a request. 0 means unlimited"
    ),
    row!(
        rest_api_idle_timeout_seconds,
        Int32,
        Real,
        "Close a REST connection after this time without a request. 0 means never"
    ),
    row!(
        stall_timeout_seconds,
        Int32,
        Real,
        "Give up a request whose client stalls for this long, while sending it or while reading \
         the response"
    ),
    row!(
        busy_poll_micros,
        Int32,
        Real,
        "How long (in microseconds) to busy-poll a connection before sleeping. Applies only to a \
         single client that sends requests back to back. 0 disables it"
    ),
];
