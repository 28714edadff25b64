//! TLS and authentication according to the flags, and watching the files behind them.
//!
//! Not here: the meaning of the files (`net::tls`, `api::access::auth`).

use std::net::SocketAddr;
use std::path::Path;

use crate::config::{self, FileWatcher, WatchedFile};
use api::access::auth::Auth;
use base::error::Result;
use net::tls::{Tls, TlsConfig};
use proto::onnx_model_server::AuthConfig;

use super::options::{SecurityOptions, ServerOptions};

/// The security of the ports, kept up to date while this exists.
pub(super) struct Security {
    grpc_tls: Option<Tls>,
    rest_tls: Option<Tls>,
    pub(super) auth: Auth,
    _watchers: Vec<FileWatcher>,
}

impl Security {
    /// Reads the files.
    ///
    /// # Errors
    ///
    /// For files that cannot be read or are not valid.
    pub(super) fn open(options: &SecurityOptions) -> Result<Self> {
        let mut watchers = Vec::new();
        let mut tls = None;
        if let Some(path) = &options.ssl_config_file {
            let file = WatchedFile::new(path);
            let loaded = Tls::try_new(&config::read_tls_config(path)?)?;
            tls = Some(loaded.clone());
            let replace = move |config: &TlsConfig| loaded.replace(config);
            watchers.push(keep_up(file, path, config::read_tls_config, replace));
            tracing::info!("Using SSL credentials");
        } else {
            tracing::info!("Using InsecureServerCredentials");
        }
        let mut auth = Auth::default();
        if let Some(path) = &options.auth_config_file {
            let file = WatchedFile::new(path);
            auth = Auth::try_new(&config::read_auth_config(path)?)?;
            let loaded = auth.clone();
            let replace = move |config: &AuthConfig| loaded.replace(config);
            watchers.push(keep_up(file, path, config::read_auth_config, replace));
        }
        Ok(Self {
            rest_tls: tls.clone().filter(|_| options.rest_uses_ssl),
            grpc_tls: tls,
            auth,
            _watchers: watchers,
        })
    }

    /// Adds TLS to the options of the ports.
    pub(super) fn apply(&self, options: &mut ServerOptions) {
        options.grpc_connections.tls = self.grpc_tls.clone();
        options.rest_connections.tls = self.rest_tls.clone();
    }

    /// Logs, in one line, which ports are open to other hosts without protection. They stay open, as in
    /// TensorFlow Serving.
    pub(super) fn warn_of_open_ports(options: &ServerOptions) {
        let security = &options.security;
        let has_auth = security.auth_config_file.is_some();
        let has_tls = security.ssl_config_file.is_some();
        let missing = |has_tls| match (has_tls, has_auth) {
            (false, false) => Some("TLS and authentication"),
            (false, true) => Some("TLS"),
            (true, false) => Some("authentication"),
            (true, true) => None,
        };
        let open: Vec<String> = [
            ("gRPC", options.grpc_address, has_tls),
            (
                "REST",
                options.rest_address,
                has_tls && security.rest_uses_ssl,
            ),
        ]
        .into_iter()
        .filter_map(|(api, address, has_tls)| {
            let address = address.filter(is_reachable)?;
            Some(format!("{api} on {address} without {}", missing(has_tls)?))
        })
        .collect();
        if !open.is_empty() {
            tracing::warn!("Open to other hosts: {}", open.join(", "));
        }
    }
}

fn is_reachable(address: &SocketAddr) -> bool {
    !address.ip().to_canonical().is_loopback()
}

/// Applies a file again whenever it has changed; an invalid file changes nothing.
fn keep_up<M: 'static>(
    file: WatchedFile,
    path: &Path,
    read: fn(&Path) -> Result<M>,
    apply: impl Fn(&M) -> Result<()> + Send + 'static,
) -> FileWatcher {
    let path = path.to_owned();
    file.on_change(move || {
        let shown = path.display();
        let read = || config::check_regular(&path).and_then(|()| read(&path));
        match read().and_then(|config| apply(&config)) {
            Ok(()) => tracing::info!("{shown} has changed and is in effect"),
            Err(error) => tracing::error!(
                "ignoring changed {shown}, keeping the previous configuration: {}: {}",
                error.code(),
                error.report()
            ),
        }
    })
}
