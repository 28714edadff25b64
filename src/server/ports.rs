//! Opens the ports: the listener of each port, and the services on it.
//!
//! Not here: the order in which they open, and their end (`server`).

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use tokio::sync::watch;

use api::access::Access;
use api::access::access_log_layer::AccessLogLayer;
use api::admin::server::AdminService;
use api::tfs::grpc;
use api::tfs::grpc::ReloadConfig;
use api::tfs::rest::RestService;
use base::error::{Code, Result, ServingError};
use base::vocabulary::ServerPort;
use net::connection::ConnectionOptions;
use net::places::Places;
use net::serve::{Listener, serve};
use proto::tensorflow::serving::ModelServerConfig;
use serving::inference::InferenceService;
use serving::lifecycle::{BasePathAllowlist, ServerCore};

use super::{Server, ServerOptions};

impl Server {
    /// Opens the admin port, which needs no loaded model.
    ///
    /// # Errors
    ///
    /// `INVALID_ARGUMENT` if it cannot be bound.
    pub(super) fn open_admin(
        &mut self,
        address: SocketAddr,
        options: &ServerOptions,
        admin: AdminService,
        places: Places,
    ) -> Result<()> {
        let listener = listen_on_all(address).map_err(|error| {
            let text = format!("cannot listen on {address} (--admin_port): {error}");
            ServingError::invalid_argument(text).caused_by(error)
        })?;
        self.admin_address = listener.address();
        tracing::info!(
            "Serving health and metrics at {} ...",
            shown(self.admin_address)
        );
        let observer = Arc::new(self.observer.without_traces());
        tokio::spawn(serve(
            listener,
            // The server does not wait for its requests, and probes have no certificates.
            ConnectionOptions {
                tls: None,
                places,
                refused: self.metrics.refused_connections(ServerPort::Admin),
                ..options.rest_connections.clone()
            },
            AccessLogLayer::new(admin, observer, ServerPort::Admin),
            self.stop_admin.subscribe(),
        ));
        Ok(())
    }

    /// Opens the gRPC port and the gRPC socket, if they are enabled.
    ///
    /// # Errors
    ///
    /// `INVALID_ARGUMENT` with TensorFlow Serving's text if one cannot be bound.
    pub(super) fn open_grpc(
        &mut self,
        options: &ServerOptions,
        inference: InferenceService,
        access: &Access,
        places: &Places,
        stopped: &watch::Receiver<bool>,
    ) -> Result<()> {
        let grpc = grpc::service(
            inference,
            &self.metrics,
            Arc::clone(&self.core) as _,
            Arc::new(Reloader {
                core: Arc::clone(&self.core),
                allowlist: options.base_path_allowlist.clone(),
            }),
            access.clone(),
            options.grpc.clone(),
            stopped.clone(),
        );
        let grpc = AccessLogLayer::new(grpc, Arc::clone(&self.observer), ServerPort::Grpc);
        let connections = ConnectionOptions {
            in_flight: self.in_flight.clone(),
            refused: self.metrics.refused_connections(ServerPort::Grpc),
            places: places.clone(),
            ..options.grpc_connections.clone()
        };
        if let Some(address) = options.grpc_address {
            let listener = Listener::tcp(address)
                .map_err(|error| grpc_failed(&format!("{address} (--port)"), &error))?;
            self.grpc_address = listener.address();
            tracing::info!(
                "Running gRPC ModelServer at {} ...",
                shown(self.grpc_address)
            );
            let served = serve(listener, connections.clone(), grpc.clone(), stopped.clone());
            self.ports.push(tokio::spawn(served));
        }
        if let Some(path) = &options.grpc_socket_path {
            let place = format!("{} (--grpc_socket_path)", path.display());
            let listener = Listener::unix(path).map_err(|error| grpc_failed(&place, &error))?;
            let path = path.display();
            tracing::info!("Running gRPC ModelServer at UNIX socket {path} ...");
            self.ports.push(tokio::spawn(serve(
                listener,
                connections,
                grpc,
                stopped.clone(),
            )));
        }
        Ok(())
    }

    /// Opens the REST port. If it cannot be bound, that is logged and the server runs without it, as in
    /// TensorFlow Serving.
    pub(super) fn open_rest(
        &mut self,
        address: SocketAddr,
        options: &ServerOptions,
        rest: RestService,
        places: Places,
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
        let listener = match listen_on_all(address) {
            Ok(listener) => listener,
            Err(error) => {
                let port = address.port();
                tracing::error!(
                    "Failed to start HTTP Server at localhost:{port}: cannot listen on {address} \
                     (--rest_api_port): {error}"
                );
                return;
            }
        };
        self.rest_address = listener.address();
        let port = self.rest_address.map_or(0, |address| address.port());
        tracing::info!("Exporting HTTP/REST API at:localhost:{port} ...");
        let rest = AccessLogLayer::new(rest, Arc::clone(&self.observer), ServerPort::Rest);
        let connections = ConnectionOptions {
            in_flight: self.in_flight.clone(),
            refused: self.metrics.refused_connections(ServerPort::Rest),
            places,
            ..options.rest_connections.clone()
        };
        let served = serve(listener, connections, rest, stopped.clone());
        self.ports.push(tokio::spawn(served));
    }
}

/// Listens on a TCP address. Without IPv6, its wildcard becomes the IPv4 wildcard, as in TensorFlow
/// Serving.
fn listen_on_all(address: SocketAddr) -> io::Result<Listener> {
    Listener::tcp(address).or_else(|error| match address {
        SocketAddr::V6(v6) if v6.ip().is_unspecified() => {
            Listener::tcp((Ipv4Addr::UNSPECIFIED, address.port()).into())
        }
        _ => Err(error),
    })
}

/// Passes the reload RPC to the lifecycle.
struct Reloader {
    core: Arc<ServerCore>,
    allowlist: BasePathAllowlist,
}

impl ReloadConfig for Reloader {
    fn reload(&self, config: ModelServerConfig, in_force: Box<dyn FnOnce() + Send>) -> Result<()> {
        self.allowlist.check(&config)?;
        let reload = self.core.begin_reload(config)?;
        in_force();
        reload.finish()
    }
}

/// The log has the address; the error has TensorFlow Serving's text.
fn grpc_failed(place: &str, error: &io::Error) -> ServingError {
    tracing::error!("cannot listen for gRPC on {place}: {error}");
    ServingError::new(Code::InvalidArgument, "Failed to BuildAndStart gRPC server")
}

fn shown(address: Option<SocketAddr>) -> String {
    address.map_or_else(String::new, |address| address.to_string())
}
