//! The thread that makes messages from calls and writes them.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use super::RequestLogOptions;
use super::buffer::{Buffer, Entry, Next};
use super::file::RotatingFile;
use base::panics;
use codec::tfrecord::append_record;
use proto::tensorflow::serving::LogMetadata;
use serving::monitoring::{LogOutcome, Metrics};
use wire::tfs::prediction_log;

/// Records are written when they reach this size, or when there is nothing else to do.
const CHUNK_BYTES: usize = 256 << 10;
/// How often files without new records are checked.
const IDLE_WAIT: Duration = Duration::from_secs(1);
/// While no file is open, there is nothing to check.
const LONG_WAIT: Duration = Duration::from_secs(3600);

pub(super) struct Writer {
    options: RequestLogOptions,
    buffer: Arc<Buffer>,
    metrics: Arc<Metrics>,
    outputs: HashMap<PathBuf, Output>,
}

/// The files of one prefix.
struct Output {
    /// Also held by the configurations and waiting calls that use it.
    prefix: Arc<PathBuf>,
    file: RotatingFile,
    /// Records that are not written yet, and their models.
    chunk: Vec<u8>,
    models: Vec<Arc<str>>,
    /// Whether the last write failed; that was logged.
    is_failing: bool,
}

impl Writer {
    pub(super) fn new(
        options: &RequestLogOptions,
        buffer: Arc<Buffer>,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self {
            options: options.clone(),
            buffer,
            metrics,
            outputs: HashMap::new(),
        }
    }

    /// The main loop of the thread.
    pub(super) fn run(mut self) {
        loop {
            match self.buffer.next(Duration::ZERO) {
                Next::Entry(entry) => self.take_safely(*entry),
                Next::Closed => break,
                Next::Idle => {
                    panics::catch_panic("the request log", || self.flush());
                    let wait = match self.outputs.is_empty() {
                        true => LONG_WAIT,
                        false => IDLE_WAIT,
                    };
                    match self.buffer.next(wait) {
                        Next::Entry(entry) => self.take_safely(*entry),
                        Next::Idle => {}
                        Next::Closed => break,
                    }
                }
            }
        }
        self.flush();
    }

    /// A call that cannot be made into a message is lost, like one that cannot be written.
    fn take_safely(&mut self, entry: Entry) {
        let model = Arc::clone(&entry.call.servable().name);
        if panics::catch_panic("the request log", || self.take(entry)).is_none() {
            self.metrics.record_request_log(&model, LogOutcome::Failed);
        }
    }

    fn take(&mut self, entry: Entry) {
        let Entry {
            logging, call, at, ..
        } = entry;
        let model = Arc::clone(&call.servable().name);
        let since_epoch = at.duration_since(UNIX_EPOCH).unwrap_or_default();
        let metadata = LogMetadata {
            sampling_config: Some((*logging.sampling).clone()),
            saved_model_tags: self.options.saved_model_tags.clone(),
            timestamp_secs: i64::try_from(since_epoch.as_secs()).unwrap_or(i64::MAX),
            ..LogMetadata::default()
        };
        let message = prediction_log::encode(call, metadata);
        let max_bytes = self.options.max_file_bytes;
        let output = self
            .outputs
            .entry((*logging.prefix).clone())
            .or_insert_with(|| Output::new(logging.prefix, max_bytes));
        append_record(&mut output.chunk, &message);
        output.models.push(model);
        if output.chunk.len() >= CHUNK_BYTES {
            output.flush(&self.metrics);
        }
    }

    /// Writes everything, and closes the files that configurations no longer use.
    fn flush(&mut self) {
        for output in self.outputs.values_mut() {
            output.flush(&self.metrics);
        }
        self.outputs
            .retain(|_, output| Arc::strong_count(&output.prefix) > 1);
    }
}

impl Output {
    fn new(prefix: Arc<PathBuf>, max_bytes: u64) -> Self {
        Self {
            file: RotatingFile::new((*prefix).clone(), max_bytes),
            prefix,
            chunk: Vec::new(),
            models: Vec::new(),
            is_failing: false,
        }
    }

    /// Writes the records, all or none. Records that cannot be written are lost.
    fn flush(&mut self, metrics: &Metrics) {
        if self.chunk.is_empty() {
            return;
        }
        let written = self.file.append(&self.chunk);
        let outcome = match &written {
            Ok(()) => LogOutcome::Written,
            Err(_) => LogOutcome::Failed,
        };
        for model in self.models.drain(..) {
            metrics.record_request_log(&model, outcome);
        }
        self.chunk.clear();
        // The memory of one large record should not be kept for ever.
        self.chunk.shrink_to(2 * CHUNK_BYTES);
        let prefix = self.prefix.display();
        match &written {
            Err(error) if !self.is_failing => {
                tracing::error!(%prefix, %error, "the request log cannot be written, records are lost");
            }
            Ok(()) if self.is_failing => {
                tracing::info!(%prefix, "the request log is written again");
            }
            _ => {}
        }
        self.is_failing = written.is_err();
    }
}
