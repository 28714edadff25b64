//! The table of flags: parsing, usage text and notes all follow it.
//!
//! The original's flags come first (`model_servers/main.cc`); flags of our own follow, with the
//! same syntax.

use super::Flags;

/// One flag.
pub(super) struct Definition {
    pub(super) name: &'static str,
    /// Where the value lives; also tells its type.
    pub(super) slot: for<'a> fn(&'a mut Flags) -> Slot<'a>,
    pub(super) effect: Effect,
    pub(super) help: &'static str,
}

/// A flag's place in [`Flags`], by the original's names of types.
pub(super) enum Slot<'a> {
    Int32(&'a mut i32),
    Int64(&'a mut i64),
    Bool(&'a mut bool),
    String(&'a mut String),
    Float(&'a mut f32),
}

/// What setting a flag does in this server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    /// What it does in the original.
    Real,
    /// Nothing, and nothing is missed: the reason is logged once.
    None(&'static str),
    /// Starting would pretend something that is not so; the reason is the error.
    Refused(&'static str),
}

const NO_TENSORFLOW: Effect = Effect::None("models run in ONNX Runtime, not in TensorFlow");
const NO_GPU: Effect = Effect::None("models run on the CPU");
const NO_TFLITE: Effect = Effect::None("TensorFlow Lite models are not supported");

const fn flag(
    name: &'static str,
    slot: for<'a> fn(&'a mut Flags) -> Slot<'a>,
    effect: Effect,
    help: &'static str,
) -> Definition {
    Definition {
        name,
        slot,
        effect,
        help,
    }
}

/// A row of the table: the flag's name is its field's name.
macro_rules! row {
    ($name:ident, $slot:ident, $effect:expr, $help:literal) => {
        flag(
            stringify!($name),
            |flags| Slot::$slot(&mut flags.$name),
            $effect,
            $help,
        )
    };
}

use Effect::Real;

pub(super) const FLAGS: &[Definition] = &[
    row!(
        port,
        Int32,
        Real,
        "TCP port of the gRPC API on all interfaces; 0: no gRPC over TCP"
    ),
    row!(
        grpc_socket_path,
        String,
        Real,
        "Also serve gRPC on a UNIX socket at this path; empty: do not"
    ),
    row!(
        rest_api_port,
        Int32,
        Real,
        "TCP port of the REST API; 0: no REST API"
    ),
    row!(
        rest_api_num_threads,
        Int32,
        Real,
        "REST requests that are worked on at the same time"
    ),
    row!(
        rest_api_timeout_in_ms,
        Int32,
        Real,
        "Time limit of one REST request in milliseconds; 0 or less: none"
    ),
    row!(
        rest_api_enable_cors_support,
        Bool,
        Real,
        "Send CORS headers in REST responses"
    ),
    row!(
        enable_batching,
        Bool,
        Real,
        "Run requests together in batches"
    ),
    row!(
        batching_parameters_file,
        String,
        Real,
        "Text file with a BatchingParameters message; empty: defaults. Needs --enable_batching"
    ),
    row!(
        enable_per_model_batching_parameters,
        Bool,
        Real,
        "Read batching_params.pbtxt from each version directory; models without it are not batched"
    ),
    row!(
        allow_version_labels_for_unavailable_models,
        Bool,
        Real,
        "Let a new label point at a version that is not loaded yet"
    ),
    row!(
        model_config_file,
        String,
        Real,
        "Text file with a ModelServerConfig message, which lists the models to serve. Takes the \
         place of --model_name and --model_base_path"
    ),
    row!(
        model_config_file_poll_wait_seconds,
        Int32,
        Real,
        "Seconds between two readings of --model_config_file; 0: read it once"
    ),
    row!(
        model_name,
        String,
        Real,
        "Name of the model, where there is no --model_config_file"
    ),
    row!(
        model_base_path,
        String,
        Real,
        "Directory of the model's versions; needed where there is no --model_config_file"
    ),
    row!(
        num_load_threads,
        Int32,
        Real,
        "Threads that load servables; 0: one load at a time"
    ),
    row!(
        num_unload_threads,
        Int32,
        Real,
        "Threads that unload servables; 0: one unload at a time"
    ),
    row!(
        max_num_load_retries,
        Int32,
        Real,
        "How often a failed load is tried again before it is given up"
    ),
    row!(
        load_retry_interval_micros,
        Int64,
        Real,
        "Microseconds between two attempts to load; negative: none"
    ),
    row!(
        file_system_poll_wait_seconds,
        Int32,
        Real,
        "Seconds between two looks for new versions; 0: look once, negative: never"
    ),
    row!(
        flush_filesystem_caches,
        Bool,
        Effect::None("local files need no flushing"),
        "Drop file system caches after servables are loaded"
    ),
    row!(
        tensorflow_session_parallelism,
        Int64,
        Real,
        "Threads within and across operators; 0: as the next two flags"
    ),
    row!(
        tensorflow_intra_op_parallelism,
        Int64,
        Real,
        "Threads within an operator; 0: as many CPUs as the process may use, by its cgroup and affinity"
    ),
    row!(
        tensorflow_inter_op_parallelism,
        Int64,
        Real,
        "Threads across operators; 0: one operator at a time"
    ),
    row!(
        tensorflow_session_config_file,
        String,
        Real,
        "Text file with a tensorflow.ConfigProto message; its two thread counts hold where the \
         flags say 0"
    ),
    row!(
        use_alts_credentials,
        Bool,
        Effect::Refused("ALTS is not supported"),
        "Google ALTS credentials for gRPC (not supported)"
    ),
    row!(
        ssl_config_file,
        String,
        Real,
        "Text file with an SSLConfig message, read again when it changes; empty: gRPC without TLS"
    ),
    row!(
        platform_config_file,
        String,
        Effect::None("there is one platform, and it is built in"),
        "Text file with a PlatformConfigMap message"
    ),
    row!(
        per_process_gpu_memory_fraction,
        Float,
        NO_GPU,
        "Share of the GPU's memory to use"
    ),
    row!(
        saved_model_tags,
        String,
        Real,
        "Tags, separated by commas, of the meta graph to read from saved_model.pb"
    ),
    row!(
        grpc_channel_arguments,
        String,
        Real,
        "gRPC server arguments as key=value, separated by commas"
    ),
    row!(
        grpc_max_threads,
        Int32,
        Real,
        "gRPC requests that are worked on at the same time"
    ),
    row!(
        enable_model_warmup,
        Bool,
        Real,
        "Replay assets.extra/tf_serving_warmup_requests before a version becomes available"
    ),
    row!(
        num_request_iterations_for_warmup,
        Int32,
        Real,
        "How often each warmup request is replayed; 0 or less: once"
    ),
    row!(version, Bool, Real, "Print versions and exit"),
    row!(
        monitoring_config_file,
        String,
        Real,
        "Text file with a MonitoringConfig message; needs --rest_api_port"
    ),
    row!(
        remove_unused_fields_from_bundle_metagraph,
        Bool,
        NO_TENSORFLOW,
        "Free parts of the meta graph that serving does not need"
    ),
    row!(
        prefer_tflite_model,
        Bool,
        NO_TFLITE,
        "Prefer model.tflite to the SavedModel"
    ),
    row!(
        num_tflite_pools,
        Int32,
        NO_TFLITE,
        "TensorFlow Lite interpreter pools"
    ),
    row!(
        num_tflite_interpreters_per_pool,
        Int32,
        NO_TFLITE,
        "TensorFlow Lite interpreters in each pool"
    ),
    row!(
        enable_signature_method_name_check,
        Bool,
        Real,
        "Only allow the API that a signature's method_name names"
    ),
    row!(
        xla_cpu_compilation_enabled,
        Bool,
        NO_TENSORFLOW,
        "Compile graphs for the CPU with XLA"
    ),
    row!(
        xla_gpu_compilation_enabled,
        Bool,
        NO_TENSORFLOW,
        "Compile graphs for the GPU with XLA"
    ),
    row!(
        enable_profiler,
        Bool,
        Real,
        "Offer ProfilerService, which answers UNIMPLEMENTED"
    ),
    row!(
        thread_pool_factory_config_file,
        String,
        Effect::Refused("no thread pool factory is registered"),
        "Text file with a ThreadPoolFactoryConfig message (not supported)"
    ),
    row!(
        mixed_precision,
        String,
        NO_TENSORFLOW,
        "Automatic mixed precision: bfloat16 or empty"
    ),
    row!(
        skip_initialize_tpu,
        Bool,
        NO_TENSORFLOW,
        "Do not initialise TPUs"
    ),
    row!(
        enable_grpc_healthcheck_service,
        Bool,
        Real,
        "Offer the standard gRPC health service"
    ),
    row!(
        enable_serialization_as_tensor_content,
        Bool,
        Real,
        "Send Predict's output tensors as tensor_content"
    ),
    // Flags of our own from here on.
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
        "Let batch_timeout_micros wait only while a batch is running"
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
        "Connections on one port; more are closed at once"
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
        "Size of a request's headers; 0: 400 KiB for HTTP/1, 64 KiB for HTTP/2"
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
];
