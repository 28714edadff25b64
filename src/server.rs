//! Puts the parts together, in the order of the original's start-up, and takes them apart again.
//!
//! The only file that names every layer. Not here: what flags mean one by one (`config`), the
//! process around the server (`main`).

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::batching::{BatchScheduler, BatchingOptions};
use crate::config::{self, Flags};
use crate::error::{Code, Result, ServingError};
use crate::inference::{InferenceOptions, InferenceService};
use crate::lifecycle::loader::OnnxLoader;
use crate::lifecycle::{
    BatchingLoader, ConfigPoller, LifecycleOptions, Loader, MeasuringLoader, PollWait, ServerCore,
    WarmingLoader,
};
use crate::monitoring::{Metrics, ModelState, Protocol};
use crate::proto::tensorflow::serving::ModelServerConfig;
use crate::runtime::Backend;
use crate::runtime::ort::{OnnxRuntime, OnnxRuntimeOptions};
use crate::servable::{ManagerState, ServableLookup};
use crate::transport::grpc::{self, GrpcOptions, ReloadConfig, channel_arguments};
use crate::transport::rest::{RestOptions, RestService};
use crate::transport::serve::{ConnectionOptions, Listener, Protocols, serve};
use crate::warmup::{Warmup, WarmupOptions};

/// Everything a server is started with.
#[derive(Clone, Debug)]
pub struct ServerOptions {
    /// The gRPC port; port 0 picks one, `None` has no TCP port.
    pub grpc_address: Option<SocketAddr>,
    /// `--grpc_socket_path`.
    pub grpc_socket_path: Option<PathBuf>,
    /// The REST port; port 0 picks one, `None` has none.
    pub rest_address: Option<SocketAddr>,
    /// The models to begin with.
    pub models: ModelServerConfig,
    /// The file to read `models` from again, and how often.
    pub model_config_poll: Option<(PathBuf, Duration)>,
    /// Loading and unloading.
    pub lifecycle: LifecycleOptions,
    /// Whether the ports stay closed until every model has an available version.
    pub wait_for_models: bool,
    /// `--saved_model_tags`.
    pub saved_model_tags: Vec<String>,
    /// `--enable_batching`, with the parameters of the one file.
    pub batching: Option<BatchingOptions>,
    /// `--enable_per_model_batching_parameters`.
    pub batching_per_version: bool,
    /// What runs before a version becomes available.
    pub warmup: WarmupOptions,
    /// The library that runs graphs.
    pub onnxruntime: OnnxRuntimeOptions,
    /// The calls.
    pub inference: InferenceOptions,
    /// The connections of the gRPC port.
    pub grpc_connections: ConnectionOptions,
    /// The gRPC services.
    pub grpc: GrpcOptions,
    /// `--monitoring_config_file`; as in the original read only if there is a REST port.
    pub monitoring_config_file: Option<PathBuf>,
    /// The REST API.
    pub rest: RestOptions,
}

impl ServerOptions {
    /// What the flags ask for. Reads the files they name.
    ///
    /// # Errors
    ///
    /// Those of [`Flags::validate`] and of the files.
    pub fn from_flags(flags: &Flags) -> Result<Self> {
        flags.validate()?;
        let threads = config::session_threads(flags)?;
        let poll_seconds = u64::try_from(flags.model_config_file_poll_wait_seconds).unwrap_or(0);
        let poll = (poll_seconds > 0 && !flags.model_config_file.is_empty()).then(|| {
            (
                flags.model_config_file.clone().into(),
                Duration::from_secs(poll_seconds),
            )
        });
        let mut grpc_connections = ConnectionOptions::new(Protocols::Http2);
        channel_arguments::apply(&flags.grpc_channel_arguments, &mut grpc_connections)?;
        let timeout_ms = u64::try_from(flags.rest_api_timeout_in_ms).unwrap_or(0);
        Ok(Self {
            grpc_address: port("port", flags.port)?
                .map(|port| (Ipv4Addr::UNSPECIFIED, port).into()),
            grpc_socket_path: non_empty(&flags.grpc_socket_path),
            rest_address: port("rest_api_port", flags.rest_api_port)?
                .map(|port| (Ipv6Addr::UNSPECIFIED, port).into()),
            models: config::model_server_config(flags)?,
            model_config_poll: poll,
            lifecycle: lifecycle_options(flags),
            wait_for_models: flags.wait_for_models,
            saved_model_tags: tags(&flags.saved_model_tags),
            batching: config::batching_options(flags)?.map(|batching| BatchingOptions {
                adaptive: flags.adaptive_batching,
                ..batching
            }),
            batching_per_version: flags.enable_per_model_batching_parameters,
            warmup: WarmupOptions {
                is_enabled: flags.enable_model_warmup,
                num_request_iterations: u32::try_from(flags.num_request_iterations_for_warmup)
                    .unwrap_or(0),
                synthesizes: flags.synthesize_warmup,
            },
            onnxruntime: OnnxRuntimeOptions {
                library: non_empty(&flags.onnxruntime_library),
                intra_op_threads: threads.intra_op,
                inter_op_threads: threads.inter_op,
                spinning: false,
            },
            inference: InferenceOptions {
                check_method_name: flags.enable_signature_method_name_check,
            },
            grpc_connections,
            monitoring_config_file: non_empty(&flags.monitoring_config_file),
            grpc: GrpcOptions {
                serialize_as_tensor_content: flags.enable_serialization_as_tensor_content,
                health_service: flags.enable_grpc_healthcheck_service,
                profiler_service: flags.enable_profiler,
                max_calls: max_calls(flags, "grpc_max_threads", flags.grpc_max_threads),
            },
            rest: RestOptions {
                timeout: (timeout_ms > 0).then(|| Duration::from_millis(timeout_ms)),
                cors: flags.rest_api_enable_cors_support,
                max_calls: max_calls(flags, "rest_api_num_threads", flags.rest_api_num_threads),
                serialize_as_tensor_content: flags.enable_serialization_as_tensor_content,
                model_listing: flags.enable_model_listing,
                compression_min_bytes: flags.rest_api_enable_response_compression.then(|| {
                    usize::try_from(flags.rest_api_response_compression_min_bytes).unwrap_or(0)
                }),
                ..RestOptions::default()
            },
        })
    }
}

/// The original's numbers of threads are defaults that nobody chose: only a number that was given
/// bounds anything.
fn max_calls(flags: &Flags, name: &str, value: i32) -> Option<usize> {
    flags
        .given
        .contains(name)
        .then(|| usize::try_from(value).unwrap_or(0).max(1))
}

/// The default of `HttpServer` (`model_servers/http_server.cc`).
const DEFAULT_MONITORING_PATH: &str = "/monitoring/prometheus/metrics";

/// Where the file puts TensorFlow Serving's metrics page; `None` for nowhere.
fn monitoring_path(file: &Path) -> Result<Option<String>> {
    let config = config::read_monitoring_config(file)?;
    let prometheus = config.prometheus_config.filter(|it| it.enable);
    Ok(prometheus.map(|it| match it.path.is_empty() {
        true => DEFAULT_MONITORING_PATH.to_owned(),
        false => it.path,
    }))
}

fn lifecycle_options(flags: &Flags) -> LifecycleOptions {
    let count = |value: i32| usize::try_from(value).unwrap_or(0);
    LifecycleOptions {
        max_num_load_retries: u32::try_from(flags.max_num_load_retries).unwrap_or(0),
        load_retry_interval: Duration::from_micros(
            u64::try_from(flags.load_retry_interval_micros).unwrap_or(0),
        ),
        num_load_threads: count(flags.num_load_threads),
        num_unload_threads: count(flags.num_unload_threads),
        file_system_poll_wait: PollWait::from_seconds(flags.file_system_poll_wait_seconds.into()),
        allow_version_labels_for_unavailable_models: flags
            .allow_version_labels_for_unavailable_models,
        ..LifecycleOptions::default()
    }
}

fn tags(flag: &str) -> Vec<String> {
    let tags = flag.split(',').filter(|tag| !tag.is_empty());
    tags.map(str::to_owned).collect()
}

/// The port of a flag, `None` for 0.
///
/// # Errors
///
/// `INVALID_ARGUMENT` for what is no port, as the original's failure to bind it.
fn port(name: &str, flag: i32) -> Result<Option<u16>> {
    let port = u16::try_from(flag).map_err(|_| {
        ServingError::invalid_argument(format!("--{name}={flag} is not a port number"))
    })?;
    Ok(Some(port).filter(|&port| port != 0))
}

fn non_empty(flag: &str) -> Option<PathBuf> {
    (!flag.is_empty()).then(|| flag.into())
}

/// The two lines of `--version`: this server's, and its library's.
pub fn version_text(flags: &Flags) -> String {
    let library = OnnxRuntimeOptions {
        library: non_empty(&flags.onnxruntime_library),
        ..OnnxRuntimeOptions::default()
    };
    let version = library.version().unwrap_or_else(|| "not found".to_owned());
    format!(
        "ONNX ModelServer: {}\nONNX Runtime Library: {version}\n",
        env!("CARGO_PKG_VERSION")
    )
}

/// A running server.
pub struct Server {
    core: Arc<ServerCore>,
    metrics: Arc<Metrics>,
    poller: Option<ConfigPoller>,
    grpc_address: Option<SocketAddr>,
    rest_address: Option<SocketAddr>,
    stop: watch::Sender<bool>,
    ports: Vec<JoinHandle<()>>,
}

impl Server {
    /// Loads the models, then opens the ports: gRPC first. Returns once both are open.
    ///
    /// # Errors
    ///
    /// Those of the first configuration (`server_core.cc`); `INVALID_ARGUMENT` where the gRPC port
    /// cannot be bound. A REST port that cannot be bound is logged and left out, as in the
    /// original.
    pub async fn start(mut options: ServerOptions) -> Result<Self> {
        if let (Some(_), Some(file)) = (options.rest_address, &options.monitoring_config_file) {
            options.rest.monitoring_path = monitoring_path(file)?;
        }
        let metrics = Arc::new(Metrics::new());
        let core = Arc::new(ServerCore::new(
            options.lifecycle.clone(),
            loader(&options, &metrics)?,
        ));
        {
            let metrics = Arc::clone(&metrics);
            core.observe_states(move |state| {
                metrics.set_model_state(&state.id, model_state(state.state));
            });
        }
        {
            let (core, models) = (Arc::clone(&core), options.models.clone());
            let wait = options.wait_for_models;
            blocking(move || {
                if wait {
                    core.start(models)
                } else {
                    core.start_without_waiting(models)
                }
            })
            .await?;
        }
        let poller = options.model_config_poll.clone().map(|(path, period)| {
            ConfigPoller::start(Arc::clone(&core), period, move || {
                config::read_model_server_config(&path)
            })
        });
        let (stop, stopped) = watch::channel(false);
        let mut server = Self {
            core,
            metrics,
            poller,
            grpc_address: None,
            rest_address: None,
            stop,
            ports: Vec::new(),
        };
        if let Err(error) = server.open_ports(&options, &stopped) {
            server.stop().await;
            return Err(error);
        }
        Ok(server)
    }

    fn open_ports(
        &mut self,
        options: &ServerOptions,
        stopped: &watch::Receiver<bool>,
    ) -> Result<()> {
        let servables: Arc<dyn ServableLookup> = Arc::clone(&self.core) as _;
        let inference = InferenceService::new(Arc::clone(&servables), Arc::clone(&self.metrics))
            .with_options(options.inference);
        let reloader = Arc::new(Reloader(Arc::clone(&self.core)));
        let grpc = grpc::service(
            inference.clone(),
            &self.metrics,
            servables,
            reloader,
            options.grpc,
            stopped.clone(),
        );

        if let Some(address) = options.grpc_address {
            let listener = Listener::tcp(address).map_err(|error| grpc_failed(&error))?;
            self.grpc_address = listener.address();
            tracing::info!(
                "Running gRPC ModelServer at {} ...",
                shown(self.grpc_address)
            );
            let served = serve(
                listener,
                options.grpc_connections.clone(),
                grpc.clone(),
                stopped.clone(),
            );
            self.ports.push(tokio::spawn(served));
        }
        if let Some(path) = &options.grpc_socket_path {
            let listener = Listener::unix(path).map_err(|error| grpc_failed(&error))?;
            let path = path.display();
            tracing::info!("Running gRPC ModelServer at UNIX socket {path} ...");
            self.ports.push(tokio::spawn(serve(
                listener,
                options.grpc_connections.clone(),
                grpc,
                stopped.clone(),
            )));
        }
        if let Some(address) = options.rest_address {
            self.open_rest(address, options, inference, stopped);
        }
        Ok(())
    }

    fn open_rest(
        &mut self,
        address: SocketAddr,
        options: &ServerOptions,
        inference: InferenceService,
        stopped: &watch::Receiver<bool>,
    ) {
        let is_grpcs = options
            .grpc_address
            .is_some_and(|grpc| grpc.port() == address.port());
        if address.port() != 0 && is_grpcs {
            tracing::error!(
                "server_options.http_port cannot be same as grpc_port. Please use a different \
                 port for HTTP/REST API. Skipped exporting HTTP/REST API."
            );
            return;
        }
        // Where there is no IPv6 the original falls back to the IPv4 wildcard.
        let listener = Listener::tcp(address).or_else(|error| match address {
            SocketAddr::V6(v6) if v6.ip().is_unspecified() => {
                Listener::tcp((Ipv4Addr::UNSPECIFIED, address.port()).into())
            }
            _ => Err(error),
        });
        let listener = match listener {
            Ok(listener) => listener,
            Err(error) => {
                let port = address.port();
                tracing::error!(%error, "Failed to start HTTP Server at localhost:{port}");
                return;
            }
        };
        self.rest_address = listener.address();
        let port = self.rest_address.map_or(0, |address| address.port());
        tracing::info!("Exporting HTTP/REST API at:localhost:{port} ...");
        let inference = inference.for_protocol(Protocol::Rest);
        let rest = RestService::new(inference, Arc::clone(&self.metrics), options.rest.clone());
        let served = serve(
            listener,
            ConnectionOptions::new(Protocols::Http1And2),
            rest,
            stopped.clone(),
        );
        self.ports.push(tokio::spawn(served));
    }

    /// The gRPC port in use.
    pub fn grpc_address(&self) -> Option<SocketAddr> {
        self.grpc_address
    }

    /// The REST port in use.
    pub fn rest_address(&self) -> Option<SocketAddr> {
        self.rest_address
    }

    /// Closes the ports, answers what is under way, unloads everything.
    pub async fn stop(self) {
        // Nobody listens if no port was opened.
        let _ = self.stop.send(true);
        for port in self.ports {
            if let Err(error) = port.await {
                tracing::error!(%error, "a port ended abnormally");
            }
        }
        let (core, poller) = (self.core, self.poller);
        let unloaded = tokio::task::spawn_blocking(move || {
            core.shutdown();
            if let Some(poller) = poller {
                poller.stop();
            }
        });
        if let Err(error) = unloaded.await {
            tracing::error!(%error, "unloading ended abnormally");
        }
    }
}

/// What makes servables: the files read, mapped and loaded, batched, and warmed up.
fn loader(options: &ServerOptions, metrics: &Arc<Metrics>) -> Result<Arc<dyn Loader>> {
    let backend: Arc<dyn Backend> = Arc::new(OnnxRuntime::open(&options.onnxruntime)?);
    let tags = options.saved_model_tags.clone();
    let mut loader: Arc<dyn Loader> =
        Arc::new(OnnxLoader::new(backend).with_saved_model_tags(tags));
    if let Some(batching) = options.batching.clone() {
        let scheduler = Arc::new(BatchScheduler::try_new(&batching)?);
        let per_version = options.batching_per_version;
        let parameters = move |directory: &Path| match per_version {
            true => Ok(config::version_batching_options(directory)?.map(|version| {
                let adaptive = batching.adaptive;
                BatchingOptions {
                    adaptive,
                    ..version
                }
            })),
            false => Ok(Some(batching.clone())),
        };
        let metrics = Arc::clone(metrics);
        loader = Arc::new(BatchingLoader::new(loader, scheduler, metrics, parameters));
    }
    let (metrics, measured) = (Arc::clone(metrics), Arc::clone(metrics));
    let warmup = Warmup::new(
        options.warmup,
        options.inference,
        metrics,
        Handle::current(),
    );
    let warm_up = move |servable: &_, directory: &Path| warmup.warm_up(servable, directory);
    let loader = Arc::new(WarmingLoader::new(loader, warm_up));
    Ok(Arc::new(MeasuringLoader::new(loader, measured)))
}

fn model_state(state: ManagerState) -> ModelState {
    match state {
        ManagerState::Start => ModelState::Start,
        ManagerState::Loading => ModelState::Loading,
        ManagerState::Available => ModelState::Available,
        ManagerState::Unloading => ModelState::Unloading,
        ManagerState::End => ModelState::End,
    }
}

/// The reload RPC, handed to the lifecycle.
struct Reloader(Arc<ServerCore>);

impl ReloadConfig for Reloader {
    fn reload(&self, config: ModelServerConfig) -> Result<()> {
        self.0.reload(config)
    }
}

fn grpc_failed(error: &io::Error) -> ServingError {
    tracing::error!(%error, "cannot listen for gRPC");
    ServingError::new(Code::InvalidArgument, "Failed to BuildAndStart gRPC server")
}

fn shown(address: Option<SocketAddr>) -> String {
    address.map_or_else(String::new, |address| address.to_string())
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    let ended = tokio::task::spawn_blocking(work).await;
    ended.unwrap_or_else(|error| Err(ServingError::internal(format!("ended abnormally: {error}"))))
}
