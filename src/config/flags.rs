//! The serving flags: one typed struct, one table of definitions, one parser.
//!
//! [`Flags`] holds the values and their defaults. For each flag, `table` has its name, its help and its
//! effect in this server. `parse` and `usage` follow the table; `validate` has the checks across flags.
//!
//! Not here: the files that flags name (`super::files`).

mod parse;
mod table;
mod threads;
mod usage;
mod validate;

use std::collections::BTreeSet;
use std::thread;

pub use self::parse::{Note, Outcome};
pub use self::threads::SessionThreads;

/// Every flag's value. Field names are flag names; for their meaning see the help texts in `table`.
///
/// The types are TensorFlow Serving's (`int32`, `int64`, `float`), so that the same values are
/// accepted.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)]
pub struct Flags {
    pub port: i32,
    pub grpc_socket_path: String,
    pub rest_api_port: i32,
    pub rest_api_num_threads: i32,
    pub rest_api_timeout_in_ms: i32,
    pub rest_api_enable_cors_support: bool,
    pub enable_batching: bool,
    pub batching_parameters_file: String,
    pub enable_per_model_batching_parameters: bool,
    pub allow_version_labels_for_unavailable_models: bool,
    pub model_config_file: String,
    pub model_config_file_poll_wait_seconds: i32,
    pub model_name: String,
    pub model_base_path: String,
    pub num_load_threads: i32,
    pub num_unload_threads: i32,
    pub max_num_load_retries: i32,
    pub load_retry_interval_micros: i64,
    pub file_system_poll_wait_seconds: i32,
    pub flush_filesystem_caches: bool,
    pub tensorflow_session_parallelism: i64,
    pub tensorflow_intra_op_parallelism: i64,
    pub tensorflow_inter_op_parallelism: i64,
    pub tensorflow_session_config_file: String,
    pub use_alts_credentials: bool,
    pub ssl_config_file: String,
    pub platform_config_file: String,
    pub per_process_gpu_memory_fraction: f32,
    pub saved_model_tags: String,
    pub grpc_channel_arguments: String,
    pub grpc_max_threads: i32,
    pub enable_model_warmup: bool,
    pub num_request_iterations_for_warmup: i32,
    pub version: bool,
    pub monitoring_config_file: String,
    pub remove_unused_fields_from_bundle_metagraph: bool,
    pub prefer_tflite_model: bool,
    pub num_tflite_pools: i32,
    pub num_tflite_interpreters_per_pool: i32,
    pub enable_signature_method_name_check: bool,
    pub xla_cpu_compilation_enabled: bool,
    pub xla_gpu_compilation_enabled: bool,
    pub enable_profiler: bool,
    pub thread_pool_factory_config_file: String,
    pub mixed_precision: String,
    pub skip_initialize_tpu: bool,
    pub enable_grpc_healthcheck_service: bool,
    pub enable_serialization_as_tensor_content: bool,
    pub backend: String,
    pub onnxruntime_library: String,
    pub onnxruntime_allow_spinning: bool,
    pub synthesize_warmup: bool,
    pub wait_for_models: bool,
    pub adaptive_batching: bool,
    pub enable_model_listing: bool,
    pub rest_api_enable_response_compression: bool,
    pub rest_api_response_compression_min_bytes: i32,
    pub rest_api_use_ssl: bool,
    pub auth_config_file: String,
    pub model_base_path_allowlist: String,
    pub log_format: String,
    pub access_log: String,
    pub access_log_sampling_rate: f32,
    pub otlp_endpoint: String,
    pub otlp_sampling_rate: f32,
    pub request_log_max_file_bytes: i64,
    pub request_log_path_allowlist: String,
    pub grpc_host: String,
    pub rest_api_host: String,
    pub admin_port: i32,
    pub admin_host: String,
    pub drain_timeout_seconds: i32,
    pub companion_files_wait_seconds: i32,
    pub max_connections: i32,
    pub max_concurrent_requests: i32,
    pub max_bytes_in_flight: i64,
    pub model_memory_limit_mb: i64,
    pub model_load_timeout_seconds: i32,
    pub max_request_bytes: i32,
    pub max_decompressed_bytes: i32,
    pub max_header_bytes: i32,
    pub rest_api_max_json_depth: i32,
    pub rest_api_idle_timeout_seconds: i32,
    pub stall_timeout_seconds: i32,
    pub busy_poll_micros: i32,
    /// The names of the flags that were given, even if with their default values.
    pub given: BTreeSet<&'static str>,
}

impl Default for Flags {
    /// Long, because it lists every flag.
    fn default() -> Self {
        let cpus = schedulable_cpus();
        Self {
            port: 8500,
            grpc_socket_path: String::new(),
            rest_api_port: 0,
            rest_api_num_threads: cpus.saturating_mul(4),
            rest_api_timeout_in_ms: 30_000,
            rest_api_enable_cors_support: false,
            enable_batching: false,
            batching_parameters_file: String::new(),
            enable_per_model_batching_parameters: false,
            allow_version_labels_for_unavailable_models: false,
            model_config_file: String::new(),
            model_config_file_poll_wait_seconds: 0,
            model_name: "default".to_owned(),
            model_base_path: String::new(),
            num_load_threads: 0,
            num_unload_threads: 0,
            max_num_load_retries: 5,
            load_retry_interval_micros: 60_000_000,
            file_system_poll_wait_seconds: 1,
            flush_filesystem_caches: true,
            tensorflow_session_parallelism: 0,
            tensorflow_intra_op_parallelism: 0,
            tensorflow_inter_op_parallelism: 0,
            tensorflow_session_config_file: String::new(),
            use_alts_credentials: false,
            ssl_config_file: String::new(),
            platform_config_file: String::new(),
            per_process_gpu_memory_fraction: 0.0,
            saved_model_tags: "serve".to_owned(),
            grpc_channel_arguments: String::new(),
            grpc_max_threads: cpus.saturating_mul(4),
            enable_model_warmup: true,
            num_request_iterations_for_warmup: 0,
            version: false,
            monitoring_config_file: String::new(),
            remove_unused_fields_from_bundle_metagraph: true,
            prefer_tflite_model: false,
            num_tflite_pools: cpus,
            num_tflite_interpreters_per_pool: 1,
            enable_signature_method_name_check: false,
            xla_cpu_compilation_enabled: false,
            xla_gpu_compilation_enabled: false,
            enable_profiler: true,
            thread_pool_factory_config_file: String::new(),
            mixed_precision: String::new(),
            skip_initialize_tpu: false,
            enable_grpc_healthcheck_service: false,
            enable_serialization_as_tensor_content: false,
            backend: "auto".to_owned(),
            onnxruntime_library: String::new(),
            onnxruntime_allow_spinning: false,
            synthesize_warmup: true,
            wait_for_models: true,
            adaptive_batching: true,
            enable_model_listing: false,
            rest_api_enable_response_compression: false,
            rest_api_response_compression_min_bytes: 1024,
            rest_api_use_ssl: false,
            auth_config_file: String::new(),
            model_base_path_allowlist: String::new(),
            log_format: "text".to_owned(),
            access_log: "off".to_owned(),
            access_log_sampling_rate: 0.01,
            otlp_endpoint: String::new(),
            otlp_sampling_rate: 1.0,
            request_log_max_file_bytes: 256 << 20,
            request_log_path_allowlist: String::new(),
            grpc_host: String::new(),
            rest_api_host: String::new(),
            admin_port: 0,
            admin_host: String::new(),
            drain_timeout_seconds: 25,
            companion_files_wait_seconds: 10,
            max_connections: 65_536,
            max_concurrent_requests: 65_536,
            max_bytes_in_flight: 0,
            model_memory_limit_mb: 0,
            model_load_timeout_seconds: 1800,
            max_request_bytes: i32::MAX,
            max_decompressed_bytes: 0,
            max_header_bytes: 0,
            rest_api_max_json_depth: 0,
            rest_api_idle_timeout_seconds: 50,
            stall_timeout_seconds: 50,
            busy_poll_micros: 300,
            given: BTreeSet::new(),
        }
    }
}

/// The number of CPUs for this process, with affinity and the cgroup's quota.
fn schedulable_cpus() -> i32 {
    thread::available_parallelism().map_or(1, |cpus| i32::try_from(cpus.get()).unwrap_or(i32::MAX))
}

#[cfg(test)]
mod tests;
