//! The options of a server, and how they follow from flags. Not here: starting it (`server`), the flags
//! themselves (`config`), reading the value of one flag (`values`).

mod values;

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::num::NonZero;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

pub(super) use self::values::non_empty;

use self::values::{address, folders, not_one_of, number, port, seconds, share, tags, too_small};
use super::memory;
use crate::config::{self, Flags};
use crate::logging::LogFormat;
use crate::request_log::RequestLogOptions;
use crate::warmup::WarmupOptions;
use api::tfs::grpc::{GrpcOptions, channel_arguments};
use api::tfs::rest::RestOptions;
use base::error::{Result, ServingError};
use mapper::version_dir::SavedModelOptions;
use net::connection::ConnectionOptions;
use net::protocols::Protocols;
use net::receive::ReceiveOptions;
use proto::tensorflow::serving::ModelServerConfig;
use runtime::{BackendChoice, BackendOptions};
use serving::batching::BatchingOptions;
use serving::inference::InferenceOptions;
use serving::lifecycle::{BasePathAllowlist, LifecycleOptions, PollWait};
use serving::telemetry::{AccessLog, AccessLogMode, ObserverOptions, OtlpOptions};

/// The files that configure the security of the ports.
#[derive(Clone, Debug, Default)]
pub struct SecurityOptions {
    /// `--ssl_config_file`.
    pub ssl_config_file: Option<PathBuf>,
    /// `--rest_api_use_ssl`.
    pub rest_uses_ssl: bool,
    /// `--auth_config_file`.
    pub auth_config_file: Option<PathBuf>,
}

/// All options of a server.
#[derive(Clone, Debug)]
pub struct ServerOptions {
    /// The gRPC port; 0 picks a free one, `None` disables it.
    pub grpc_address: Option<SocketAddr>,
    /// `--grpc_socket_path`.
    pub grpc_socket_path: Option<PathBuf>,
    /// The REST port; 0 picks a free one, `None` disables it.
    pub rest_address: Option<SocketAddr>,
    /// The admin port; 0 picks a free one, `None` disables it.
    pub admin_address: Option<SocketAddr>,
    /// How long requests in flight have to finish once the server stops.
    pub drain_timeout: Duration,
    /// `--max_concurrent_requests`.
    pub max_concurrent_requests: usize,
    /// `--max_bytes_in_flight`.
    pub max_bytes_in_flight: u64,
    /// The models to load at the start.
    pub models: ModelServerConfig,
    /// The file to read `models` from again, and how often.
    pub model_config_poll: Option<(PathBuf, Duration)>,
    /// Where the models of a reload are allowed to be (`--model_base_path_allowlist`).
    pub base_path_allowlist: BasePathAllowlist,
    /// Loading and unloading.
    pub lifecycle: LifecycleOptions,
    /// Whether the ports stay closed until every model has an available version.
    pub wait_for_models: bool,
    /// `--model_memory_limit_mb`, in bytes; `None` without a limit.
    pub model_memory_limit: Option<u64>,
    /// `--saved_model_tags`, `--saved_model_partial`.
    pub saved_model: SavedModelOptions,
    /// `--enable_batching`, with the parameters of the one file.
    pub batching: Option<BatchingOptions>,
    /// `--enable_per_model_batching_parameters`.
    pub batching_per_version: bool,
    /// `--learn_run_placement`.
    pub learn_run_placement: bool,
    /// Requests that are run before a version becomes available.
    pub warmup: WarmupOptions,
    /// The backend that runs graphs.
    pub backend: BackendOptions,
    /// TLS and authentication.
    pub security: SecurityOptions,
    /// Sampled requests and their answers.
    pub request_log: RequestLogOptions,
    /// The access log and traces.
    pub observer: ObserverOptions,
    /// Inference calls.
    pub inference: InferenceOptions,
    /// The connections of the gRPC port.
    pub grpc_connections: ConnectionOptions,
    /// The gRPC services.
    pub grpc: GrpcOptions,
    /// `--monitoring_config_file`; as in TensorFlow Serving it is read only if there is a REST port.
    pub monitoring_config_file: Option<PathBuf>,
    /// The connections of the REST port and of the admin port.
    pub rest_connections: ConnectionOptions,
    /// The REST API.
    pub rest: RestOptions,
}

impl ServerOptions {
    /// The options according to the flags. Reads the files that they name.
    ///
    /// # Errors
    ///
    /// Those of [`Flags::validate`] and of the files.
    pub fn from_flags(flags: &Flags) -> Result<Self> {
        flags.validate()?;
        let rest_connections = rest_connections(flags)?;
        let grpc_connections = grpc_connections(flags, &rest_connections)?;
        let models = config::model_server_config(flags)?;
        config::check_platform_config(flags)?;
        Ok(Self {
            grpc_address: grpc_address(flags)?,
            grpc_socket_path: non_empty(&flags.grpc_socket_path),
            rest_address: rest_address(flags)?,
            admin_address: admin_address(flags)?,
            drain_timeout: seconds("drain_timeout_seconds", flags.drain_timeout_seconds, 0)?,
            max_concurrent_requests: number(
                "max_concurrent_requests",
                flags.max_concurrent_requests,
                1,
            )?,
            max_bytes_in_flight: max_bytes_in_flight(flags)?,
            models,
            model_config_poll: model_config_poll(flags),
            base_path_allowlist: BasePathAllowlist::try_new(&flags.model_base_path_allowlist)?,
            lifecycle: lifecycle_options(flags)?,
            wait_for_models: flags.wait_for_models,
            model_memory_limit: model_memory_limit(flags)?,
            saved_model: SavedModelOptions {
                tags: tags(&flags.saved_model_tags),
                partial: flags.saved_model_partial,
            },
            batching: config::batching_options(flags)?.map(|batching| BatchingOptions {
                adaptive: flags.adaptive_batching,
                ..batching
            }),
            batching_per_version: flags.enable_per_model_batching_parameters,
            learn_run_placement: flags.learn_run_placement,
            warmup: warmup_options(flags)?,
            backend: backend_options(flags)?,
            security: SecurityOptions {
                ssl_config_file: non_empty(&flags.ssl_config_file),
                rest_uses_ssl: flags.rest_api_use_ssl,
                auth_config_file: non_empty(&flags.auth_config_file),
            },
            request_log: RequestLogOptions {
                max_file_bytes: u64::try_from(flags.request_log_max_file_bytes).unwrap_or(0),
                allowed_folders: folders(&flags.request_log_path_allowlist),
                saved_model_tags: tags(&flags.saved_model_tags),
            },
            observer: observer_options(flags)?,
            inference: InferenceOptions {
                check_method_name: flags.enable_signature_method_name_check,
                max_expanded_bytes: Some(max_bytes_in_flight(flags)? / 2),
            },
            grpc_connections,
            monitoring_config_file: non_empty(&flags.monitoring_config_file),
            grpc: grpc_options(flags)?,
            rest: rest_options(flags)?,
            rest_connections,
        })
    }
}

fn grpc_address(flags: &Flags) -> Result<Option<SocketAddr>> {
    port("port", flags.port)?
        .map(|port| address(&flags.grpc_host, Ipv4Addr::UNSPECIFIED.into(), port))
        .transpose()
}

fn rest_address(flags: &Flags) -> Result<Option<SocketAddr>> {
    port("rest_api_port", flags.rest_api_port)?
        .map(|port| address(&flags.rest_api_host, Ipv6Addr::UNSPECIFIED.into(), port))
        .transpose()
}

fn admin_address(flags: &Flags) -> Result<Option<SocketAddr>> {
    port("admin_port", flags.admin_port)?
        .map(|port| {
            let host = match flags.admin_host.as_str() {
                "" => &flags.rest_api_host,
                host => host,
            };
            address(host, Ipv6Addr::UNSPECIFIED.into(), port)
        })
        .transpose()
}

/// The file with the models to read again, and how often.
fn model_config_poll(flags: &Flags) -> Option<(PathBuf, Duration)> {
    let poll_seconds = u64::try_from(flags.model_config_file_poll_wait_seconds).unwrap_or(0);
    (poll_seconds > 0 && !flags.model_config_file.is_empty()).then(|| {
        (
            flags.model_config_file.clone().into(),
            Duration::from_secs(poll_seconds),
        )
    })
}

fn warmup_options(flags: &Flags) -> Result<WarmupOptions> {
    Ok(WarmupOptions {
        is_enabled: flags.enable_model_warmup,
        num_request_iterations: u32::try_from(flags.num_request_iterations_for_warmup).unwrap_or(0),
        timeout: model_load_timeout(flags)?,
        synthesizes: flags.synthesize_warmup,
    })
}

fn grpc_options(flags: &Flags) -> Result<GrpcOptions> {
    Ok(GrpcOptions {
        serialize_as_tensor_content: flags.enable_serialization_as_tensor_content,
        health_service: flags.enable_grpc_healthcheck_service,
        profiler_service: flags.enable_profiler,
        max_calls: max_calls(flags, "grpc_max_threads", flags.grpc_max_threads),
        receive: receive(flags, flags.max_request_bytes)?,
    })
}

fn rest_options(flags: &Flags) -> Result<RestOptions> {
    let timeout_ms = u64::try_from(flags.rest_api_timeout_in_ms).unwrap_or(0);
    Ok(RestOptions {
        timeout: (timeout_ms > 0).then(|| Duration::from_millis(timeout_ms)),
        cors: flags.rest_api_enable_cors_support,
        max_calls: max_calls(flags, "rest_api_num_threads", flags.rest_api_num_threads),
        serialize_as_tensor_content: flags.enable_serialization_as_tensor_content,
        model_listing: flags.enable_model_listing,
        compression_min_bytes: flags
            .rest_api_enable_response_compression
            .then(|| usize::try_from(flags.rest_api_response_compression_min_bytes).unwrap_or(0)),
        receive: receive(flags, REST_MAX_DECOMPRESSED_BYTES)?,
        max_json_depth: Some(number(
            "rest_api_max_json_depth",
            flags.rest_api_max_json_depth,
            0,
        )?)
        .filter(|&max| max > 0),
    })
}

/// The options of the gRPC port's connections: those of the REST port, with the protocol, the idle
/// timeout and the channel arguments of gRPC.
fn grpc_connections(flags: &Flags, rest: &ConnectionOptions) -> Result<ConnectionOptions> {
    let mut options = ConnectionOptions {
        protocols: Protocols::Http2,
        idle_timeout: None,
        ..rest.clone()
    };
    channel_arguments::apply(&flags.grpc_channel_arguments, &mut options)?;
    Ok(options)
}

/// TensorFlow Serving's limit on a gunzipped REST body.
const REST_MAX_DECOMPRESSED_BYTES: i32 = 100 << 20;

/// hyper's minimum for the headers of an HTTP/1 request.
const MIN_HEADER_BYTES: i32 = 8192;

fn rest_connections(flags: &Flags) -> Result<ConnectionOptions> {
    let defaults = ConnectionOptions::new(Protocols::Http1And2);
    let idle = seconds(
        "rest_api_idle_timeout_seconds",
        flags.rest_api_idle_timeout_seconds,
        0,
    )?;
    Ok(ConnectionOptions {
        max_connections: number("max_connections", flags.max_connections, 1)?,
        max_header_bytes: match flags.max_header_bytes {
            0 => defaults.max_header_bytes,
            bytes => number("max_header_bytes", bytes, MIN_HEADER_BYTES)?,
        },
        idle_timeout: Some(idle).filter(|idle| !idle.is_zero()),
        stall_timeout: stall_timeout(flags)?,
        busy_poll: busy_poll(flags)?,
        ..defaults
    })
}

fn receive(flags: &Flags, max_decompressed_bytes: i32) -> Result<ReceiveOptions> {
    let max_decompressed_bytes = match flags.max_decompressed_bytes {
        0 => max_decompressed_bytes,
        bytes => bytes,
    };
    Ok(ReceiveOptions {
        max_bytes: number("max_request_bytes", flags.max_request_bytes, 1)?,
        max_decompressed_bytes: number("max_decompressed_bytes", max_decompressed_bytes, 1)?,
        stall_timeout: stall_timeout(flags)?,
    })
}

/// Meanwhile the worker serves no other socket.
const MAX_BUSY_POLL_MICROS: i32 = 10_000;

/// On a single CPU polling is disabled: it would keep the client from sending its request.
fn busy_poll(flags: &Flags) -> Result<Duration> {
    let micros = flags.busy_poll_micros;
    let window = number("busy_poll_micros", micros, 0).map(Duration::from_micros)?;
    if micros > MAX_BUSY_POLL_MICROS {
        return Err(ServingError::invalid_argument(format!(
            "--busy_poll_micros={micros} is more than {MAX_BUSY_POLL_MICROS}"
        )));
    }
    let cpus = thread::available_parallelism().map_or(1, NonZero::get);
    Ok(if cpus > 1 { window } else { Duration::ZERO })
}

fn stall_timeout(flags: &Flags) -> Result<Duration> {
    seconds("stall_timeout_seconds", flags.stall_timeout_seconds, 1)
}

/// By default half of the memory: above that, requests and the data made from them could soon exceed
/// it.
fn max_bytes_in_flight(flags: &Flags) -> Result<u64> {
    match u64::try_from(flags.max_bytes_in_flight) {
        Ok(0) => Ok(memory::available_bytes().map_or(u64::MAX, |bytes| bytes / 2)),
        Ok(bytes) => Ok(bytes),
        Err(_) => Err(too_small(
            "max_bytes_in_flight",
            flags.max_bytes_in_flight,
            0,
        )),
    }
}

fn model_memory_limit(flags: &Flags) -> Result<Option<u64>> {
    match u64::try_from(flags.model_memory_limit_mb) {
        Ok(0) => Ok(None),
        Ok(mebibytes) => Ok(Some(mebibytes.saturating_mul(1 << 20))),
        Err(_) => Err(too_small(
            "model_memory_limit_mb",
            flags.model_memory_limit_mb,
            0,
        )),
    }
}

/// TensorFlow Serving's numbers of threads are arbitrary defaults, so a number limits the calls only if
/// the flag was given.
fn max_calls(flags: &Flags, name: &str, value: i32) -> Option<usize> {
    flags
        .given
        .contains(name)
        .then(|| usize::try_from(value).unwrap_or(0).max(1))
}

/// The time limit of a load; `None` for 0.
///
/// # Errors
///
/// `INVALID_ARGUMENT` for a negative number.
fn model_load_timeout(flags: &Flags) -> Result<Option<Duration>> {
    let timeout = seconds(
        "model_load_timeout_seconds",
        flags.model_load_timeout_seconds,
        0,
    )?;
    Ok(Some(timeout).filter(|timeout| !timeout.is_zero()))
}

/// The flags about the lifecycle of models.
///
/// # Errors
///
/// `INVALID_ARGUMENT` for a time below 0.
fn lifecycle_options(flags: &Flags) -> Result<LifecycleOptions> {
    let count = |value: i32| usize::try_from(value).unwrap_or(0);
    Ok(LifecycleOptions {
        model_load_timeout: model_load_timeout(flags)?,
        max_num_load_retries: u32::try_from(flags.max_num_load_retries).unwrap_or(0),
        load_retry_interval: Duration::from_micros(
            u64::try_from(flags.load_retry_interval_micros).unwrap_or(0),
        ),
        num_load_threads: count(flags.num_load_threads),
        num_unload_threads: count(flags.num_unload_threads),
        companion_files_wait: seconds(
            "companion_files_wait_seconds",
            flags.companion_files_wait_seconds,
            0,
        )?,
        file_system_poll_wait: PollWait::from_seconds(flags.file_system_poll_wait_seconds.into()),
        allow_version_labels_for_unavailable_models: flags
            .allow_version_labels_for_unavailable_models,
        ..LifecycleOptions::default()
    })
}

/// The options of the backend.
///
/// # Errors
///
/// `INVALID_ARGUMENT` for an unknown backend, or an error of the file with the numbers of threads.
fn backend_options(flags: &Flags) -> Result<BackendOptions> {
    let choice = BackendChoice::from_name(&flags.backend)
        .ok_or_else(|| not_one_of("backend", &flags.backend, BackendChoice::NAMES))?;
    let threads = config::session_threads(flags)?;
    Ok(BackendOptions {
        choice,
        onnxruntime_library: non_empty(&flags.onnxruntime_library),
        intra_op_threads: threads.intra_op,
        inter_op_threads: threads.inter_op,
        onnxruntime_spinning: flags.onnxruntime_allow_spinning,
        onnxruntime_pool_only: !flags.learn_run_placement,
    })
}

/// The access log and traces.
///
/// # Errors
///
/// `INVALID_ARGUMENT` for an invalid value of a flag.
fn observer_options(flags: &Flags) -> Result<ObserverOptions> {
    if LogFormat::from_name(&flags.log_format).is_none() {
        return Err(not_one_of("log_format", &flags.log_format, "text, json"));
    }
    let mode = AccessLogMode::from_name(&flags.access_log)
        .ok_or_else(|| not_one_of("access_log", &flags.access_log, "off, errors, sampled, all"))?;
    let access_log = AccessLog {
        mode,
        sampling_rate: share("access_log_sampling_rate", flags.access_log_sampling_rate)?,
    };
    let sampling_rate = share("otlp_sampling_rate", flags.otlp_sampling_rate)?;
    let otlp = (!flags.otlp_endpoint.is_empty()).then(|| OtlpOptions {
        endpoint: flags.otlp_endpoint.clone(),
        sampling_rate,
    });
    Ok(ObserverOptions { access_log, otlp })
}
