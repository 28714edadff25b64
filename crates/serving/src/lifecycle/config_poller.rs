//! Reads the model configuration periodically and applies it
//! (`PollFilesystemAndReloadConfig`, `model_servers/server.cc`).
//!
//! Not here: the source of the configuration, which the caller's closure reads.

use std::sync::Arc;
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use tracing::error;

use super::signal::Signal;
use super::{Reload, ServerCore};
use base::error::{Result, ServingError};
use base::panics;
use proto::tensorflow::serving::ModelServerConfig;

/// How long `stop` waits for the thread.
const STOP_PATIENCE: Duration = Duration::from_secs(2);

/// A thread that keeps a server's configuration up to date until it is stopped or dropped.
pub struct ConfigPoller {
    stop: Arc<Signal>,
    /// Raised once the thread has ended.
    ended: Arc<Signal>,
    /// `None` once it is stopped, or if the system could not start one.
    thread: Option<JoinHandle<()>>,
}

impl ConfigPoller {
    /// Applies the result of `read` to `core`, now and after each `interval`, whether it changed or
    /// not. If that fails, the error is logged and the loaded models stay.
    pub fn start(
        core: Arc<ServerCore>,
        interval: Duration,
        read: impl Fn() -> Result<ModelServerConfig> + Send + 'static,
    ) -> Self {
        let stop = Arc::<Signal>::default();
        let ended = Arc::<Signal>::default();
        let (stop_thread, thread_ended) = (Arc::clone(&stop), Arc::clone(&ended));
        let thread = Builder::new()
            .name("config-poller".to_owned())
            .spawn(move || {
                // The applied configurations whose models are still loading.
                let mut in_flight = Vec::new();
                loop {
                    panics::catch_panic("the configuration's reader", || {
                        finish_decided(&mut in_flight);
                        in_flight.extend(read_and_apply(&core, &read));
                        finish_decided(&mut in_flight);
                    });
                    if stop_thread.wait(interval) {
                        break;
                    }
                }
                thread_ended.raise();
            });
        let thread = thread
            .inspect_err(|error| error!(%error, "no thread to re-read the configuration"))
            .ok();
        Self {
            stop,
            ended,
            thread,
        }
    }

    /// Stops reading, and waits for a configuration that is being applied. If a file does not answer,
    /// it is not waited for.
    pub fn stop(mut self) {
        self.stop.raise();
        let Some(thread) = self.thread.take() else {
            return;
        };
        if !self.ended.wait(STOP_PATIENCE) && !thread.is_finished() {
            error!("the configuration file does not answer; stopping without it");
        } else if thread.join().is_err() {
            error!("the thread that re-reads the configuration panicked");
        }
    }
}

/// Stops reading without waiting.
impl Drop for ConfigPoller {
    fn drop(&mut self) {
        self.stop.raise();
    }
}

/// Reads and applies a configuration. Does not wait for its models, because the next one can drop them.
fn read_and_apply<'a>(
    core: &'a ServerCore,
    read: &impl Fn() -> Result<ModelServerConfig>,
) -> Option<Reload<'a>> {
    match read() {
        Err(error) => error!(
            "Failed to read ModelServerConfig file: {}: {}",
            error.code(),
            error.report()
        ),
        Ok(config) => match core.begin_reload(config) {
            Err(error) => log_failure(&error),
            Ok(reload) => return Some(reload),
        },
    }
    None
}

fn finish_decided(in_flight: &mut Vec<Reload<'_>>) {
    for decided in in_flight.extract_if(.., |reload| reload.is_decided()) {
        if let Err(error) = decided.finish() {
            log_failure(&error);
        }
    }
}

fn log_failure(error: &ServingError) {
    error!(
        "PollFilesystemAndReloadConfig failed to ReloadConfig: {}: {}",
        error.code(),
        error.report()
    );
}
