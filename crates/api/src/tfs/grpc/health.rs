//! `grpc.health.v1.Health`: TensorFlow Serving's service names, and the real state of every model.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_server::{Health, HealthServer};
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};

use super::status::to_status;
use base::vocabulary::ManagerState;
use net::catch_panic::catch_panic;
use serving::servable::ServableLookup;

/// The longest delay before a watcher learns of a change.
const WATCH_INTERVAL: Duration = Duration::from_millis(200);

/// The service for these servables.
pub(super) fn server(
    servables: Arc<dyn ServableLookup>,
    stopped: watch::Receiver<bool>,
) -> HealthServer<impl Health> {
    HealthServer::new(HealthImpl { servables, stopped })
}

struct HealthImpl {
    servables: Arc<dyn ServableLookup>,
    /// Turns true when the server stops, which ends the watches.
    stopped: watch::Receiver<bool>,
}

/// The status of a service name. Empty, `ModelService` and `PredictionService` are as in TensorFlow
/// Serving; `<model>` serves while it has an available version, `<model>/<version>` while that is
/// available. `None` if the model does not exist.
fn status(servables: &dyn ServableLookup, service: &str) -> Option<ServingStatus> {
    if matches!(service, "" | "ModelService" | "PredictionService") {
        return Some(ServingStatus::Serving);
    }
    let mut states = servables.states(service);
    if states.is_empty() {
        let (model, version) = service.rsplit_once('/')?;
        let version: i64 = version.parse().ok()?;
        states = servables.states(model);
        states.retain(|state| state.id.version == version);
    }
    if states.is_empty() {
        return None;
    }
    let available = states
        .iter()
        .any(|state| state.state == ManagerState::Available);
    Some(if available {
        ServingStatus::Serving
    } else {
        ServingStatus::NotServing
    })
}

fn response(status: ServingStatus) -> HealthCheckResponse {
    HealthCheckResponse {
        status: status.into(),
    }
}

/// Sends the status of a service whenever it changes. Ends when the watcher leaves, which closes the
/// channel, or when the server stops.
async fn report_changes(
    servables: &dyn ServableLookup,
    service: &str,
    stopped: &mut watch::Receiver<bool>,
    watcher: &mpsc::Sender<Result<HealthCheckResponse, Status>>,
) {
    let mut last = None;
    loop {
        // By the protocol an unknown service is a status here, not an error.
        let now = status(servables, service).unwrap_or(ServingStatus::ServiceUnknown);
        if last != Some(now) && watcher.send(Ok(response(now))).await.is_err() {
            return;
        }
        last = Some(now);
        tokio::select! {
            () = watcher.closed() => return,
            _ = stopped.wait_for(|stopped| *stopped) => return,
            () = tokio::time::sleep(WATCH_INTERVAL) => {}
        }
    }
}

#[tonic::async_trait]
impl Health for HealthImpl {
    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        match status(self.servables.as_ref(), &request.into_inner().service) {
            Some(_) if *self.stopped.borrow() => {
                Ok(Response::new(response(ServingStatus::NotServing)))
            }
            Some(status) => Ok(Response::new(response(status))),
            None => Err(Status::not_found("unknown service")),
        }
    }

    type WatchStream = Pin<Box<dyn Stream<Item = Result<HealthCheckResponse, Status>> + Send>>;

    async fn watch(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let service = request.into_inner().service;
        let servables = Arc::clone(&self.servables);
        let mut stopped = self.stopped.clone();
        let (sender, receiver) = mpsc::channel(1);
        tokio::spawn(async move {
            let watched = report_changes(servables.as_ref(), &service, &mut stopped, &sender);
            if let Err(error) = catch_panic(watched).await {
                // Fails if the watcher has left.
                let _ = sender.send(Err(to_status(&error))).await;
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }
}
