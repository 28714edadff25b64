//! TensorFlow Serving's flags, in the order of its `model_servers/main.cc`.

use super::Effect::{self, Real};
use super::{Definition, row};

const NO_TENSORFLOW: Effect = Effect::None("models run in ONNX Runtime, not in TensorFlow");
const NO_GPU: Effect = Effect::None("models run on the CPU");
const NO_TFLITE: Effect = Effect::None("TensorFlow Lite models are not supported");

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
];
