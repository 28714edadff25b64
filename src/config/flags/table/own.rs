//! This server's own flags.

use super::Effect::Real;
use super::{Definition, row};

pub(super) const FLAGS: &[Definition] = &[
    row!(
        backend,
        String,
        Real,
        "What runs models: onnxruntime, tract, or auto: ONNX Runtime if its library is found, else \
         tract if this program was built with it"
    ),
    row!(
        onnxruntime_library,
        String,
        Real,
        "Path of the ONNX Runtime shared library; empty: ORT_DYLIB_PATH, then beside the \
         executable or in ../lib, then the system's libonnxruntime.so"
    ),
    row!(
        onnxruntime_allow_spinning,
        Bool,
        Real,
        "Let idle threads of ONNX Runtime spin before they sleep: shorter runs, busier cores"
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
        "Open the ports once every model has an available version; false: open them at once"
    ),
    row!(
        enable_model_listing,
        Bool,
        Real,
        "Answer GET /v1/models with a list of the models; false: with an error, as TensorFlow \
         Serving"
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
        "Size from which REST responses are compressed, where that is enabled"
    ),
    row!(
        adaptive_batching,
        Bool,
        Real,
        "Let batches wait only while another is running, and be no larger than is worth it"
    ),
    row!(
        rest_api_use_ssl,
        Bool,
        Real,
        "Serve the REST API over TLS, too, by --ssl_config_file"
    ),
    row!(
        auth_config_file,
        String,
        Real,
        "Text file with an AuthConfig message, read again when it changes; empty: anybody may call"
    ),
    row!(
        model_base_path_allowlist,
        String,
        Real,
        "Folders, separated by commas, that HandleReloadConfigRequest may name base paths in; \
         empty: any"
    ),
    row!(
        log_format,
        String,
        Real,
        "text: TensorFlow's lines; json: one object for each event"
    ),
    row!(
        access_log,
        String,
        Real,
        "Requests to log: off, errors, sampled (errors and a share of the others) or all"
    ),
    row!(
        access_log_sampling_rate,
        Float,
        Real,
        "The share of --access_log=sampled, from 0 to 1"
    ),
    row!(
        otlp_endpoint,
        String,
        Real,
        "Send traces to this OpenTelemetry collector by gRPC, as http://host:4317; empty: none"
    ),
    row!(
        otlp_sampling_rate,
        Float,
        Real,
        "Share of requests to trace, from 0 to 1, where the client has not decided"
    ),
    row!(
        request_log_max_file_bytes,
        Int64,
        Real,
        "Size at which a file of logging_config is ended and the next is begun"
    ),
    row!(
        request_log_path_allowlist,
        String,
        Real,
        "Folders, separated by commas, that a logging_config may write to; empty: any"
    ),
    row!(
        grpc_host,
        String,
        Real,
        "Address or host name that --port is opened on; empty: all IPv4 interfaces"
    ),
    row!(
        rest_api_host,
        String,
        Real,
        "Address or host name that --rest_api_port is opened on; empty: all interfaces"
    ),
    row!(
        admin_port,
        Int32,
        Real,
        "TCP port of health, metrics and model states over HTTP, open from the start; 0: none"
    ),
    row!(
        admin_host,
        String,
        Real,
        "Address or host name that --admin_port is opened on; empty: as --rest_api_host"
    ),
    row!(
        drain_timeout_seconds,
        Int32,
        Real,
        "Seconds that requests under way have to finish after SIGTERM or SIGINT"
    ),
    row!(
        max_connections,
        Int32,
        Real,
        "Connections on one port. A new one beyond takes the place of the one that waits longest for its client"
    ),
    row!(
        max_concurrent_requests,
        Int32,
        Real,
        "Requests at a time; more are refused"
    ),
    row!(
        max_bytes_in_flight,
        Int64,
        Real,
        "Bytes of all requests at a time; more are refused. 0: half the memory there is"
    ),
    row!(
        companion_files_wait_seconds,
        Int32,
        Real,
        "Seconds that a new version waits for files that the serving version has and it lacks, such \
         as a signature map; then it loads without them. 0: does not wait"
    ),
    row!(
        model_memory_limit_mb,
        Int64,
        Real,
        "MiB that this process may have resident once a model is loaded; a load that may take it \
         beyond is refused. 0: no limit"
    ),
    row!(
        model_load_timeout_seconds,
        Int32,
        Real,
        "Seconds after which a load is given up, so that others can go on. 0: never"
    ),
    row!(
        max_request_bytes,
        Int32,
        Real,
        "Size of a gRPC message or a REST body as it is sent"
    ),
    row!(
        max_decompressed_bytes,
        Int32,
        Real,
        "Size of a decompressed request; 0: 100 MiB for REST, as TensorFlow Serving; for \
         gRPC as --max_request_bytes"
    ),
    row!(
        max_header_bytes,
        Int32,
        Real,
        "Size of a request's headers; 0: 64 KiB"
    ),
    row!(
        rest_api_max_json_depth,
        Int32,
        Real,
        "How deep the JSON of a request may nest; 0: any depth, which costs nothing"
    ),
    row!(
        rest_api_idle_timeout_seconds,
        Int32,
        Real,
        "Seconds that a REST connection may be without a request; 0: any time"
    ),
    row!(
        stall_timeout_seconds,
        Int32,
        Real,
        "Seconds that a client may stall in a request or in taking its answer"
    ),
    row!(
        busy_poll_micros,
        Int32,
        Real,
        "Microseconds after an answer, and after a request's head, in which a worker looks for more \
         from a lone client that has been as quick, before it sleeps; 0: none"
    ),
];
