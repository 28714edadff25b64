//! Starts the parts of the server, in the order of TensorFlow Serving's start-up, and stops them again.
//!
//! The only place that names every layer. Not here: the meaning of single flags (`config`), the process
//! around the server (`main`). `options` turns flags into the options of each part.

mod descriptors;
mod loader;
mod memory;
mod options;
mod ports;
mod security;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use futures_util::future::join;
use tokio::runtime::Handle;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout_at};

use crate::config::{self, Flags};
use crate::logging;
use crate::request_log::RequestLog;
use api::access::Access;
use api::admin::health::{ModelsReport, Readiness};
use api::admin::pages::{Copies, Pages};
use api::admin::server::AdminService;
use api::tfs::rest::RestService;
use base::error::Result;
use base::metrics::family::About;
use base::metrics::registry::Read;
use base::panics;
use base::vocabulary::Protocol;
use net::in_flight::InFlight;
use net::limit::LoadShed;
use net::places::Places;
use runtime::BackendOptions;
use serving::inference::InferenceService;
use serving::lifecycle::{ConfigPoller, ServerCore};
use serving::monitoring::Metrics;
use serving::servable::ServableLookup;
use serving::telemetry::Observer;

use self::descriptors::Descriptors;
use self::loader::loader;
pub use self::loader::{check_loader, check_version_batching};
use options::non_empty;
pub use options::{SecurityOptions, ServerOptions};
use security::Security;

/// The default of `HttpServer` (`model_servers/http_server.cc`).
const DEFAULT_MONITORING_PATH: &str = "/monitoring/prometheus/metrics";

/// The time that the parts of the server have to stop after the last request.
const STOP_GRACE: Duration = Duration::from_secs(1);

/// The metrics, with those that this package keeps.
fn metrics() -> Metrics {
    let metrics = Metrics::new();
    metrics.register(Read::counter(
        About::new(
            "onnx_model_server_log_lines_dropped_total",
            "Lines of the log that were dropped since they could not be written in time.",
        ),
        logging::dropped_lines,
    ));
    metrics
}

/// The path of TensorFlow Serving's metrics page according to the file; `None` if it is disabled.
fn monitoring_path(file: &Path) -> Result<Option<String>> {
    let config = config::read_monitoring_config(file)?;
    let prometheus = config.prometheus_config.filter(|it| it.enable);
    Ok(prometheus.map(|it| match it.path.is_empty() {
        true => DEFAULT_MONITORING_PATH.to_owned(),
        false => it.path,
    }))
}

/// The lines of `--version`: this server's, and one for each of its backends.
pub fn version_text(flags: &Flags) -> String {
    let backend = BackendOptions {
        onnxruntime_library: non_empty(&flags.onnxruntime_library),
        ..BackendOptions::default()
    };
    let version = env!("CARGO_PKG_VERSION");
    format!("ONNX ModelServer: {version}\n{}", backend.versions())
}

/// A running server.
pub struct Server {
    core: Arc<ServerCore>,
    metrics: Arc<Metrics>,
    observer: Arc<Observer>,
    request_log: Arc<RequestLog>,
    poller: Option<ConfigPoller>,
    security: Security,
    grpc_address: Option<SocketAddr>,
    rest_address: Option<SocketAddr>,
    admin_address: Option<SocketAddr>,
    readiness: Readiness,
    in_flight: InFlight,
    drain_timeout: Duration,
    stop: watch::Sender<bool>,
    ports: Vec<JoinHandle<()>>,
    /// The admin port stops last, so that probes see the others drain.
    stop_admin: watch::Sender<bool>,
}

/// How a server stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stopped {
    /// Every request was answered.
    Drained,
    /// The drain timeout passed with requests in flight.
    CutOff {
        /// The number of these requests.
        requests: usize,
    },
}

impl Server {
    /// Opens the admin port, loads the models, then opens the other ports: gRPC first. Returns once
    /// they are open.
    ///
    /// # Errors
    ///
    /// Those of the first configuration (`server_core.cc`); `INVALID_ARGUMENT` if the gRPC port or the
    /// admin port cannot be bound. If the REST port cannot be bound, that is logged and the server runs
    /// without it, as in TensorFlow Serving.
    pub async fn start(mut options: ServerOptions) -> Result<Self> {
        let security = Security::open(&options.security)?;
        Security::warn_of_open_ports(&options);
        security.apply(&mut options);
        let metrics = Arc::new(metrics());
        let observer = Arc::new(Observer::try_new(&options.observer)?);
        let core = Arc::new(ServerCore::new(
            options.lifecycle.clone(),
            loader(&options, &metrics)?,
        ));
        {
            let metrics = Arc::clone(&metrics);
            core.observe_states(move |state| {
                metrics.set_model_state(&state.id, state.state);
            });
        }
        let request_log = RequestLog::start(options.request_log.clone(), Arc::clone(&metrics))?;
        let request_log = Arc::new(request_log);
        {
            let request_log = Arc::clone(&request_log);
            core.apply_request_logging(move |models| request_log.configure(models));
        }
        let (stop, stopped) = watch::channel(false);
        let readiness = {
            let core = Arc::clone(&core);
            Readiness::new(stopped.clone(), move || ModelsReport {
                missing: core.models_without_version(),
                stalled: core.stalled_models(),
            })
        };
        let mut server = Self {
            core,
            metrics,
            observer,
            request_log,
            poller: None,
            security,
            grpc_address: None,
            rest_address: None,
            admin_address: None,
            readiness,
            in_flight: InFlight::default(),
            drain_timeout: options.drain_timeout,
            stop,
            ports: Vec::new(),
            stop_admin: watch::Sender::new(false),
        };
        if let Err(error) = server.open(&options, &stopped).await {
            server.stop().await;
            return Err(error);
        }
        Ok(server)
    }

    async fn open(
        &mut self,
        options: &ServerOptions,
        stopped: &watch::Receiver<bool>,
    ) -> Result<()> {
        let pages = self.pages(options)?;
        let load_shed = LoadShed::new(options.max_concurrent_requests, options.max_bytes_in_flight);
        let auth = self.security.auth.clone();
        let access = Access::new(auth, load_shed.clone(), Arc::clone(&self.metrics));
        let descriptors = Descriptors::left();
        let servables: Arc<dyn ServableLookup> = Arc::clone(&self.core) as _;
        let inference = InferenceService::new(servables, Arc::clone(&self.metrics))
            .with_options(options.inference)
            .with_logger(Arc::clone(&self.request_log) as _);
        if let Some(address) = options.admin_address {
            // Visible only to the operators of the server.
            let pages = Pages {
                shows_errors: true,
                ..pages.clone()
            };
            let admin = AdminService::new(pages, inference.clone(), access.clone());
            let places = Places::new(descriptors.admin);
            load_shed.make_room_in(places.clone());
            self.open_admin(address, options, admin, places)?;
        }
        self.load_models(options).await?;
        let in_flight = self.in_flight.clone();
        let places = Places::new(descriptors.clients);
        load_shed.make_room_in(places.clone());
        tokio::spawn(memory::give_back(load_shed, in_flight, stopped.clone()));
        self.open_grpc(options, inference.clone(), &access, &places, stopped)?;
        if let Some(address) = options.rest_address {
            let inference = inference.for_protocol(Protocol::Rest);
            let rest = RestService::new(inference, pages, access, options.rest.clone());
            self.open_rest(address, options, rest, places, stopped);
        }
        self.readiness.set_serving();
        Ok(())
    }

    /// The pages for operators, as clients of the REST port see them.
    fn pages(&self, options: &ServerOptions) -> Result<Pages> {
        let monitoring_path = match (options.rest_address, &options.monitoring_config_file) {
            (Some(_), Some(file)) => monitoring_path(file)?,
            _ => None,
        };
        Ok(Pages {
            metrics: Arc::clone(&self.metrics),
            readiness: self.readiness.clone(),
            shows_errors: options.security.auth_config_file.is_none(),
            monitoring_path,
            copies: Copies::default(),
        })
    }

    /// Loads the models, then begins to poll the file that names them.
    async fn load_models(&mut self, options: &ServerOptions) -> Result<()> {
        let (core, models) = (Arc::clone(&self.core), options.models.clone());
        let wait = options.wait_for_models;
        blocking(move || {
            if wait {
                core.start(models)
            } else {
                core.start_without_waiting(models)
            }
        })
        .await?;
        self.poller = options.model_config_poll.clone().map(|(path, period)| {
            ConfigPoller::start(Arc::clone(&self.core), period, move || {
                config::check_regular(&path)?;
                config::read_model_server_config(&path)
            })
        });
        Ok(())
    }

    /// The gRPC port in use.
    pub fn grpc_address(&self) -> Option<SocketAddr> {
        self.grpc_address
    }

    /// The REST port in use.
    pub fn rest_address(&self) -> Option<SocketAddr> {
        self.rest_address
    }

    /// The admin port in use.
    pub fn admin_address(&self) -> Option<SocketAddr> {
        self.admin_address
    }

    /// Closes the ports, answers requests in flight, writes the request log and the traces, unloads all
    /// models. Requests have the drain timeout of the options. The request log and the traces have the
    /// rest of it but at least a second, the unloading has a second.
    pub async fn stop(self) -> Stopped {
        // The send fails if no port was opened.
        let _ = self.stop.send(true);
        let end = Instant::now() + self.drain_timeout;
        let stopped = match timeout_at(end, all_ended(self.ports)).await {
            Ok(()) => Stopped::Drained,
            Err(_) => Stopped::CutOff {
                requests: self.in_flight.count(),
            },
        };
        // Each on a thread of its own, so that a disk, a collector or a mount that hangs does not hold
        // up the others.
        let (request_log, observer) = (self.request_log, self.observer);
        let (core, poller) = (self.core, self.poller);
        let records = on_thread("request-log-end", move || request_log.shutdown());
        let traces = on_thread("traces-end", move || observer.shutdown());
        let lifecycle = on_thread("lifecycle-end", move || {
            core.shutdown();
            if let Some(poller) = poller {
                poller.stop();
            }
        });
        let soon = Instant::now() + STOP_GRACE;
        let written = timeout_at(end.max(soon), join(records, traces));
        if written.await.is_err() {
            tracing::error!("the request log or the traces could not be written in time");
        }
        if timeout_at(soon, lifecycle).await.is_err() {
            tracing::warn!("the search for versions does not end and is left alone");
        }
        self.stop_admin.send_replace(true);
        stopped
    }
}

/// Waits until all ports have ended.
async fn all_ended(ports: Vec<JoinHandle<()>>) {
    for port in ports {
        if let Err(error) = port.await {
            tracing::error!(%error, "a port ended abnormally");
        }
    }
}

/// Does blocking work on a new thread. The receiver is notified when it ends, or fails if no thread
/// could be started or it panicked.
fn on_thread(name: &str, work: impl FnOnce() + Send + 'static) -> oneshot::Receiver<()> {
    let (done, end) = oneshot::channel();
    let runtime = Handle::current();
    let thread = thread::Builder::new().name(name.to_owned());
    let spawned = thread.spawn(move || {
        let _inside = runtime.enter();
        work();
        // The receiver is gone if it has stopped waiting.
        let _ = done.send(());
    });
    if let Err(error) = spawned {
        tracing::error!(%error, name, "no thread for a part of the stop, which is left out");
    }
    end
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    let ended = tokio::task::spawn_blocking(work).await;
    ended.unwrap_or_else(|_| Err(panics::ended_abnormally("the start")))
}
