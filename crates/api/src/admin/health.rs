//! Liveness and readiness of the server, as `/healthz` and `/readyz` report them to probes.
//!
//! Not here: gRPC's health service (`grpc::health`), serving the pages (`pages`).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use http::{Response, StatusCode};
use serde_json::{Map, Value, json};
use tokio::sync::watch;

use crate::http_reply::response;

/// The length to which an error is cut.
const MAX_ERROR_CHARS: usize = 2000;

/// The state that `/readyz` reports.
#[derive(Clone)]
pub struct Readiness(Arc<Inner>);

struct Inner {
    /// Set once the ports are open.
    serves: AtomicBool,
    stopped: watch::Receiver<bool>,
    models: Box<dyn Fn() -> ModelsReport + Send + Sync>,
}

/// The state of the configured models.
#[derive(Clone, Debug, Default)]
pub struct ModelsReport {
    /// Models without an available version, with the error if one is known.
    pub missing: Vec<(String, Option<String>)>,
    /// Models whose base path does not respond; this does not affect readiness.
    pub stalled: Vec<String>,
}

impl Readiness {
    /// A server that is starting, and drains once `stopped` turns true. `models` reports the state of its
    /// models, and must not block.
    pub fn new(
        stopped: watch::Receiver<bool>,
        models: impl Fn() -> ModelsReport + Send + Sync + 'static,
    ) -> Self {
        Self(Arc::new(Inner {
            serves: AtomicBool::new(false),
            stopped,
            models: Box::new(models),
        }))
    }

    /// Must be called once the ports are open.
    pub fn set_serving(&self) {
        self.0.serves.store(true, Ordering::Release);
    }

    /// `/readyz`. Errors of missing models are only for readers who are allowed to see file names.
    pub(super) fn page(&self, shows_errors: bool) -> Response<Bytes> {
        let ModelsReport { missing, stalled } = (self.0.models)();
        let errors: Map<String, Value> = missing
            .iter()
            .filter_map(|(model, error)| Some((model.clone(), shortened(error.clone()?))))
            .collect();
        let missing: Vec<String> = missing.into_iter().map(|(model, _)| model).collect();
        let state = if *self.0.stopped.borrow() {
            "draining"
        } else if !self.0.serves.load(Ordering::Acquire) {
            "starting"
        } else if !missing.is_empty() {
            "models missing"
        } else {
            "ready"
        };
        let status = match state {
            "ready" => StatusCode::OK,
            _ => StatusCode::SERVICE_UNAVAILABLE,
        };
        let mut body = json!({"status": state, "missing_models": missing});
        if shows_errors && !errors.is_empty() {
            body["errors"] = errors.into();
        }
        if !stalled.is_empty() {
            body["stalled_models"] = json!(stalled);
        }
        response(status, "application/json", format!("{body}\n").into())
    }
}

/// Shortens an error, because monitoring systems store the answers to their probes.
fn shortened(mut error: String) -> Value {
    if let Some((end, _)) = error.char_indices().nth(MAX_ERROR_CHARS) {
        error.truncate(end);
        error.push('…');
    }
    error.into()
}

/// `/healthz`: a server that answers is alive.
pub(super) fn alive() -> Response<Bytes> {
    response(StatusCode::OK, "text/plain", Bytes::from_static(b"ok\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(readiness: &Readiness) -> (u16, String) {
        let page = readiness.page(true);
        let body: serde_json::Value = serde_json::from_slice(page.body()).unwrap();
        (page.status().as_u16(), body.to_string())
    }

    fn missing_model(name: &str) -> ModelsReport {
        ModelsReport {
            missing: vec![(
                name.to_owned(),
                Some("version 1: INVALID_ARGUMENT: no".to_owned()),
            )],
            ..ModelsReport::default()
        }
    }

    #[test]
    fn a_stalled_model_is_named_and_the_server_ready() {
        let (_stop, stopped) = watch::channel(false);
        let readiness = Readiness::new(stopped, || ModelsReport {
            stalled: vec!["remote".to_owned()],
            ..ModelsReport::default()
        });
        readiness.set_serving();
        let body = json!({"status": "ready", "missing_models": [], "stalled_models": ["remote"]});
        assert_eq!(state(&readiness), (200, body.to_string()));
    }

    #[test]
    fn ready_is_serving_with_all_models_and_not_stopping() {
        let (stop, stopped) = watch::channel(false);
        let missing = Arc::new(AtomicBool::new(true));
        let readiness = Readiness::new(stopped, {
            let missing = Arc::clone(&missing);
            move || match missing.load(Ordering::Relaxed) {
                true => missing_model("mnist"),
                false => ModelsReport::default(),
            }
        });
        let body = |status: &str, models: serde_json::Value| {
            let mut body = json!({"status": status, "missing_models": models});
            if models != json!([]) {
                body["errors"] = json!({"mnist": "version 1: INVALID_ARGUMENT: no"});
            }
            body.to_string()
        };
        assert_eq!(state(&readiness), (503, body("starting", json!(["mnist"]))));
        readiness.set_serving();
        assert_eq!(
            state(&readiness),
            (503, body("models missing", json!(["mnist"])))
        );
        missing.store(false, Ordering::Relaxed);
        assert_eq!(state(&readiness), (200, body("ready", json!([]))));
        stop.send(true).unwrap();
        assert_eq!(state(&readiness), (503, body("draining", json!([]))));
    }
}
