//! Records sampled requests and their answers in files (`ModelConfig.logging_config`): `PredictionLog`
//! messages in TFRecord files, which TensorFlow reads and which work as warmup files.
//!
//! A request only puts its call into a bounded buffer; a separate thread makes messages from the calls
//! and writes them. Calls that do not fit are dropped and counted, so that clients notice neither a
//! slow nor a full disk.
//!
//! Not here: the messages (`wire::tfs::prediction_log`), when configurations change (`lifecycle`), the
//! lines of the access log (`telemetry`).

mod buffer;
mod config;
mod file;
#[cfg(test)]
mod tests;
mod writer;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use arc_swap::ArcSwap;

use self::buffer::Buffer;
use self::config::ModelLogging;
use self::writer::Writer;
use base::error::{Code, Result, ServingError};
use proto::tensorflow::serving::ModelConfig;
use serving::inference::{LoggedCall, RequestLogger};
use serving::monitoring::{LogOutcome, Metrics};
use serving::telemetry::{is_sampled, random};

/// The flags about request logging.
#[derive(Clone, Debug)]
pub struct RequestLogOptions {
    /// `--request_log_max_file_bytes`: at this size the file is closed and the next one begins.
    pub max_file_bytes: u64,
    /// `--request_log_path_allowlist`: the folders in which files are allowed; empty for any.
    pub allowed_folders: Vec<PathBuf>,
    /// The value of `LogMetadata.saved_model_tags`.
    pub saved_model_tags: Vec<String>,
}

/// The request log of one server.
pub struct RequestLog {
    options: RequestLogOptions,
    /// By model. Replaced as a whole.
    models: ArcSwap<HashMap<String, ModelLogging>>,
    buffer: Arc<Buffer>,
    metrics: Arc<Metrics>,
    /// Taken when the server stops.
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl RequestLog {
    /// A log without models, whose thread waits for work.
    ///
    /// # Errors
    ///
    /// `RESOURCE_EXHAUSTED` if the thread cannot be started.
    pub fn start(options: RequestLogOptions, metrics: Arc<Metrics>) -> Result<Self> {
        let buffer = Arc::<Buffer>::default();
        let writer = Writer::new(&options, Arc::clone(&buffer), Arc::clone(&metrics));
        let thread = std::thread::Builder::new()
            .name("request-log".to_owned())
            .spawn(move || writer.run())
            .map_err(|error| {
                let text = format!("no thread for the request log: {error}");
                ServingError::new(Code::ResourceExhausted, text).caused_by(error)
            })?;
        Ok(Self {
            options,
            models: ArcSwap::default(),
            buffer,
            metrics,
            thread: Mutex::new(Some(thread)),
        })
    }

    /// Replaces the configurations of all models. Changes nothing if one of them is wrong.
    ///
    /// # Errors
    ///
    /// Those of `ModelLogging::try_new`.
    pub fn configure(&self, models: &[ModelConfig]) -> Result<()> {
        let old = self.models.load_full();
        let mut new = HashMap::new();
        for model in models {
            let Some(config) = &model.logging_config else {
                continue;
            };
            let logging = ModelLogging::try_new(config, &self.options.allowed_folders)?;
            let known = old.values().chain(new.values());
            let logging = logging.sharing_files_with(known);
            new.insert(model.name.clone(), logging);
        }
        self.models.store(Arc::new(new));
        Ok(())
    }

    /// Writes the buffered calls, and ends the thread. Can block for as long as the disk does.
    pub fn shutdown(&self) {
        self.buffer.close();
        // Not within the condition: the lock would be held while the disk is waited for.
        let thread = self
            .thread
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(thread) = thread
            && thread.join().is_err()
        {
            tracing::error!("the request log's thread ended abnormally");
        }
    }
}

impl RequestLogger for RequestLog {
    fn samples(&self, model: &str) -> bool {
        let models = self.models.load();
        let logging = models.get(model);
        logging.is_some_and(|logging| is_sampled(logging.sampling_rate(), random()))
    }

    fn log(&self, call: LoggedCall) {
        let models = self.models.load();
        // The configuration can have changed after the call was sampled.
        let Some(logging) = models.get(&*call.servable().name) else {
            return;
        };
        let model = Arc::clone(&call.servable().name);
        if !self.buffer.push(logging.clone(), call) {
            self.metrics.record_request_log(&model, LogOutcome::Dropped);
        }
    }
}

impl Drop for RequestLog {
    fn drop(&mut self) {
        self.shutdown();
    }
}
