//! The flags, each declared once: its name, type, default, help, and its effect if that is not TensorFlow
//! Serving's.
//!
//! A flag's doc comment is its text in `--help`. Parsing, the usage text and the notes follow this
//! table, in its order. The types are TensorFlow Serving's (`int32`, `int64`, `float`), so that the same
//! values are accepted.
//!
//! Not here: the form of a declaration (`declare`), checks across flags (`validate`).

use std::thread;

use super::declare::{Effect, flags};

const NO_TENSORFLOW: Effect = Effect::None("models run in ONNX Runtime, not in TensorFlow");
const NO_GPU: Effect = Effect::None("models run on the CPU");
const NO_TFLITE: Effect = Effect::None("TensorFlow Lite models are not supported");

flags! {
    /// Every flag's value.
    #[derive(Clone, Debug, PartialEq)]
    #[allow(rustdoc::bare_urls)]
    pub struct Flags {
        // TensorFlow Serving's flags, in the order of its `model_servers/main.cc`.

        /// TCP port of the gRPC API on all interfaces; 0: no gRPC over TCP
        port: i32 = 8500,

        /// Also serve gRPC on a UNIX socket at this path; empty: do not
        grpc_socket_path: String = "",

        /// TCP port of the REST API; 0: no REST API
        rest_api_port: i32 = 0,

        /// REST requests that are worked on at the same time
        rest_api_num_threads: i32 = schedulable_cpus().saturating_mul(4),

        /// Time limit of one REST request in milliseconds; 0 or less: none
        rest_api_timeout_in_ms: i32 = 30_000,

        /// Send CORS headers in REST responses
        rest_api_enable_cors_support: bool = false,

        /// Run requests together in batches
        enable_batching: bool = false,

        /// Text file with a BatchingParameters message; empty: defaults. Needs --enable_batching
        batching_parameters_file: String = "",

        /// Read batching_params.pbtxt from each version directory; models without it are not batched
        enable_per_model_batching_parameters: bool = false,

        /// Let a new label point at a version that is not loaded yet
        allow_version_labels_for_unavailable_models: bool = false,

        /// Text file with a ModelServerConfig message, which lists the models to serve. Takes the place
        /// of --model_name and --model_base_path
        model_config_file: String = "",

        /// Seconds between two readings of --model_config_file; 0: read it once
        model_config_file_poll_wait_seconds: i32 = 0,

        /// Name of the model, where there is no --model_config_file
        model_name: String = "default",

        /// Directory of the model's versions; needed where there is no --model_config_file
        model_base_path: String = "",

        /// Threads that load servables; 0: one load at a time
        num_load_threads: i32 = 0,

        /// Threads that unload servables; 0: one unload at a time
        num_unload_threads: i32 = 0,

        /// How often a failed load is tried again before it is given up
        max_num_load_retries: i32 = 5,

        /// Microseconds between two attempts to load; negative: none
        load_retry_interval_micros: i64 = 60_000_000,

        /// Seconds between two looks for new versions; 0: look once, negative: never
        file_system_poll_wait_seconds: i32 = 1,

        /// Drop file system caches after servables are loaded
        flush_filesystem_caches: bool = true => Effect::None("local files need no flushing"),

        /// Threads within and across operators; 0: as the next two flags
        tensorflow_session_parallelism: i64 = 0,

        /// Threads within an operator; 0: as many CPUs as the process can use, by its cgroup and
        /// affinity
        tensorflow_intra_op_parallelism: i64 = 0,

        /// Threads across operators; 0: one operator at a time
        tensorflow_inter_op_parallelism: i64 = 0,

        /// Text file with a tensorflow.ConfigProto message; its two thread counts hold where the flags
        /// say 0
        tensorflow_session_config_file: String = "",

        /// Google ALTS credentials for gRPC (not supported)
        use_alts_credentials: bool = false => Effect::Refused("ALTS is not supported"),

        /// Text file with an SSLConfig message, read again when it changes; empty: gRPC without TLS
        ssl_config_file: String = "",

        /// Text file with a PlatformConfigMap message
        platform_config_file: String = "" => Effect::None("there is one platform, and it is built in"),

        /// Share of the GPU's memory to use
        per_process_gpu_memory_fraction: f32 = 0.0 => NO_GPU,

        /// Tags, separated by commas, of the meta graph to read from saved_model.pb
        saved_model_tags: String = "serve",

        /// Serve a SavedModel without ONNX files if only some of its signatures can be imported
        saved_model_partial: bool = false,

        /// gRPC server arguments as key=value, separated by commas
        grpc_channel_arguments: String = "",

        /// gRPC requests that are worked on at the same time
        grpc_max_threads: i32 = schedulable_cpus().saturating_mul(4),

        /// Replay assets.extra/tf_serving_warmup_requests before a version becomes available
        enable_model_warmup: bool = true,

        /// How often each warmup request is replayed; 0 or less: once
        num_request_iterations_for_warmup: i32 = 0,

        /// Print versions and exit
        version: bool = false,

        /// Text file with a MonitoringConfig message; needs --rest_api_port
        monitoring_config_file: String = "",

        /// Free parts of the meta graph that serving does not need
        remove_unused_fields_from_bundle_metagraph: bool = true => NO_TENSORFLOW,

        /// Prefer model.tflite to the SavedModel
        prefer_tflite_model: bool = false => NO_TFLITE,

        /// TensorFlow Lite interpreter pools
        num_tflite_pools: i32 = schedulable_cpus() => NO_TFLITE,

        /// TensorFlow Lite interpreters in each pool
        num_tflite_interpreters_per_pool: i32 = 1 => NO_TFLITE,

        /// Only allow the API that a signature's method_name names
        enable_signature_method_name_check: bool = false,

        /// Compile graphs for the CPU with XLA
        xla_cpu_compilation_enabled: bool = false => NO_TENSORFLOW,

        /// Compile graphs for the GPU with XLA
        xla_gpu_compilation_enabled: bool = false => NO_TENSORFLOW,

        /// Offer ProfilerService, which answers UNIMPLEMENTED
        enable_profiler: bool = true,

        /// Text file with a ThreadPoolFactoryConfig message (not supported)
        thread_pool_factory_config_file: String = "" => Effect::Refused("no thread pool factory is registered"),

        /// Automatic mixed precision: bfloat16 or empty
        mixed_precision: String = "" => NO_TENSORFLOW,

        /// Do not initialise TPUs
        skip_initialize_tpu: bool = false => NO_TENSORFLOW,

        /// Offer the standard gRPC health service
        enable_grpc_healthcheck_service: bool = false,

        /// Send Predict's output tensors as tensor_content
        enable_serialization_as_tensor_content: bool = false,
        // This server's own flags.

        /// The backend that runs models: onnxruntime, tract, or auto. auto takes ONNX Runtime if its
        /// library is found, otherwise tract if this program was built with it
        backend: String = "auto",

        /// Path of the ONNX Runtime shared library. Empty: ORT_DYLIB_PATH, then next to the executable
        /// or in ../lib, then the system's libonnxruntime.so
        onnxruntime_library: String = "",

        /// Let idle threads of ONNX Runtime spin before they sleep: shorter runs, busier CPUs
        onnxruntime_allow_spinning: bool = false,

        /// Run each graph once on zeros before a version without a warmup file becomes available
        synthesize_warmup: bool = true,

        /// Open the ports only when every model has an available version. false opens them immediately
        wait_for_models: bool = true,

        /// Answer GET /v1/models with a list of the models. false answers with an error, as TensorFlow
        /// Serving does
        enable_model_listing: bool = false,

        /// Send gzip to REST clients that accept it
        rest_api_enable_response_compression: bool = false,

        /// Compress REST responses of at least this size, if compression is enabled
        rest_api_response_compression_min_bytes: i32 = 1024,

        /// Wait for more requests only while a batch is running, and cap the batch size where larger
        /// batches stop being faster
        adaptive_batching: bool = true,

        /// Learn from earlier runs of a model where its next run is fastest. false runs each request on
        /// its own thread or in a batch, with all threads of the backend
        learn_run_placement: bool = true,

        /// Serve the REST API over TLS as well, with --ssl_config_file
        rest_api_use_ssl: bool = false,

        /// Text file with an AuthConfig message, read again when it changes. Empty: no authentication
        auth_config_file: String = "",

        /// Comma-separated folders. HandleReloadConfigRequest is refused for base paths outside them.
        /// Empty: no restriction
        model_base_path_allowlist: String = "",

        /// text writes TensorFlow's lines, json writes one object per event
        log_format: String = "text",

        /// Which requests to log: off, errors, sampled (errors and a share of the others) or all
        access_log: String = "off",

        /// The share of requests that --access_log=sampled logs, from 0 to 1
        access_log_sampling_rate: f32 = 0.01,

        /// Send traces to this OpenTelemetry collector by gRPC, for example http://host:4317. Empty: no
        /// traces
        otlp_endpoint: String = "",

        /// Share of requests to trace, from 0 to 1, unless the client has decided
        otlp_sampling_rate: f32 = 1.0,

        /// Start a new file of logging_config at this size
        request_log_max_file_bytes: i64 = 256 << 20,

        /// Comma-separated folders. A logging_config is refused if it writes outside them. Empty: no
        /// restriction
        request_log_path_allowlist: String = "",

        /// Address or host name for --port. Empty: all IPv4 interfaces
        grpc_host: String = "",

        /// Address or host name for --rest_api_port. Empty: all interfaces
        rest_api_host: String = "",

        /// TCP port for health, metrics and model states over HTTP, open from the start. 0 disables it
        admin_port: i32 = 0,

        /// Address or host name for --admin_port. Empty: the value of --rest_api_host
        admin_host: String = "",

        /// How long requests in flight can take to finish after SIGTERM or SIGINT
        drain_timeout_seconds: i32 = 25,

        /// Maximum number of connections per port. At the limit, a new connection replaces the one that
        /// has waited longest for its client
        max_connections: i32 = 65_536,

        /// Maximum number of requests in flight. Further requests are refused
        max_concurrent_requests: i32 = 65_536,

        /// Maximum number of bytes of all requests in flight. Further requests are refused. 0: half of
        /// the available memory
        max_bytes_in_flight: i64 = 0,

        /// How long a new version waits for files that the serving version has and it lacks, such as a
        /// signature map, before it loads without them. 0 disables the wait
        companion_files_wait_seconds: i32 = 10,

        /// Refuse to load a model if that could push resident memory above this many MiB. 0 means
        /// unlimited
        model_memory_limit_mb: i64 = 0,

        /// Give up a load after this time, so that other loads can go on. 0 means never
        model_load_timeout_seconds: i32 = 1800,

        /// Maximum size of a gRPC message or a REST body, before decompression
        max_request_bytes: i32 = i32::MAX,

        /// Maximum size of a decompressed request. 0: 100 MiB for REST, as TensorFlow Serving;
        /// --max_request_bytes for gRPC
        max_decompressed_bytes: i32 = 0,

        /// Maximum size of a request's headers. 0: 64 KiB
        max_header_bytes: i32 = 0,

        /// Maximum nesting depth of the JSON of a request. 0 means unlimited
        rest_api_max_json_depth: i32 = 0,

        /// Close a REST connection after this time without a request. 0 means never
        rest_api_idle_timeout_seconds: i32 = 50,

        /// Give up a request whose client stalls for this long, while sending it or while reading the
        /// response
        stall_timeout_seconds: i32 = 50,

        /// How long (in microseconds) to busy-poll a connection before sleeping. Applies only to a
        /// single client that sends requests back to back. 0 disables it
        busy_poll_micros: i32 = 300,
    }
}

/// The number of CPUs for this process, with affinity and the cgroup's quota.
fn schedulable_cpus() -> i32 {
    thread::available_parallelism().map_or(1, |cpus| i32::try_from(cpus.get()).unwrap_or(i32::MAX))
}
