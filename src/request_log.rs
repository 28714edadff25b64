//! Keeps sampled requests and their answers in files (`ModelConfig.logging_config`): `PredictionLog`
//! messages in TFRecord files, which TensorFlow reads and which work as warmup files.
//!
//! A request only puts its call into a bounded buffer; a thread of its own makes messages of the
//! calls and writes them. What does not fit is dropped and counted, so that neither a slow nor a
//! full disk is noticed by clients.
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

/// What the flags say about request logging.
#[derive(Clone, Debug)]
pub struct RequestLogOptions {
    /// `--request_log_max_file_bytes`: from this size on a file is ended.
    pub max_file_bytes: u64,
    /// `--request_log_path_allowlist`: the folders that may be written to; empty for any.
    pub allowed_folders: Vec<PathBuf>,
    /// What `LogMetadata.saved_model_tags` says.
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
    /// A log of no model, whose thread waits for work.
    ///
    /// # Errors
    ///
    /// `RESOURCE_EXHAUSTED` where there is no thread.
    pub fn start(options: RequestLogOptions, metrics: Arc<Metrics>) -> Result<Self> {
        let buffer = Arc::<Buffer>::default();
        let writer = Writer::new(&options, Arc::clone(&buffer), Arc::clone(&metrics));
        let thread = std::thread::Builder::new()
            .name("request-log".to_owned())
            .spawn(move || writer.run())
            .map_err(|error| {
                let text = format!("no thread for the request log: {error}");
                ServingError::new(Code::ResourceExhausted, text)
            })?;
        Ok(Self {
            options,
            models: ArcSwap::default(),
            buffer,
            metrics,
            thread: Mutex::new(Some(thread)),
        })
    }

    /// Logs what these configurations say from now on, and nothing else. Changes nothing where one
    /// of them is wrong.
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

    /// Writes what is buffered, and ends the thread. May block for as long as the disk does.
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
        // The configuration may have changed since the call was sampled.
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
