//! Replays a version's recorded requests
//! (`servables/tensorflow/saved_model_warmup_util.cc`).
//!
//! Not here: the file's framing (`tfrecord`).

use std::fs::File;
use std::io::BufReader;
use std::path::Path;
use std::time::Instant;

use bytes::Bytes;
use prost::Message;
use tokio::time::timeout_at;
use tracing::{info, warn};

use super::Warmup;
use base::error::{Code, Result, ServingError};
use codec::proto_wire::Malformed;
use codec::tfrecord::RecordReader;
use proto::tensorflow::serving as pb;
use proto::tensorflow::serving::prediction_log::LogType;
use serving::inference::{ExamplesRequest, MultiInferenceRequest, PredictRequest};
use serving::servable::ServableHandle;
use wire::tfs::predict::PredictCall;
use wire::tfs::{classification, multi_inference, prediction_log, regression};

/// More records than this fail the load.
const MAX_RECORDS: u64 = 1000;
/// The most bytes of an unparsable record that its error shows.
const MAX_SHOWN_BYTES: usize = 256;

/// A recorded request. Copies share its tensors and examples.
#[derive(Clone)]
enum Recorded {
    Predict(PredictRequest),
    Classify(ExamplesRequest),
    Regress(ExamplesRequest),
    MultiInference(MultiInferenceRequest),
}

/// How reading a warmup file ended.
enum End {
    /// At the end of the file, or at a read error. Metrics count this.
    Read(Result<()>),
    /// At a request that failed or is not allowed.
    Refused(ServingError),
}

impl Warmup {
    /// Runs every request of `file`, the result of opening `path` under the version directory
    /// `directory`.
    pub(super) fn replay(
        &self,
        servable: &ServableHandle,
        directory: &Path,
        path: &Path,
        file: Result<(File, u64)>,
    ) -> Result<()> {
        let begin = Instant::now();
        info!(
            "Starting to read warmup data for model at {}",
            path.display()
        );
        let mut records = 0;
        let result = match file {
            Err(error) => Err(error),
            Ok(file) => match self.replay_records(servable, path, file, &mut records) {
                End::Refused(error) => return Err(error),
                End::Read(result) => result,
            },
        };
        let elapsed = begin.elapsed();
        let status = match &result {
            Ok(()) => Code::Ok.name().to_owned(),
            Err(error) => format!("{}: {error}", error.code()),
        };
        let directory = directory.display().to_string();
        self.metrics
            .record_warmup(&directory, &status, elapsed, records);
        result.map_err(explain)?;
        info!(
            "Finished reading warmup data for model at {}. Number of warmup records read: \
             {records}. Elapsed time (microseconds): {}.",
            path.display(),
            elapsed.as_micros()
        );
        Ok(())
    }

    fn replay_records(
        &self,
        servable: &ServableHandle,
        path: &Path,
        (file, bytes): (File, u64),
        records: &mut u64,
    ) -> End {
        let begin = Instant::now();
        let deadline = self.options.timeout.and_then(|it| begin.checked_add(it));
        let mut reader = RecordReader::new(BufReader::new(file), bytes);
        loop {
            let record = match reader.next_record() {
                Ok(Some(record)) => record,
                Ok(None) => return End::Read(Ok(())),
                Err(error) => return End::Read(Err(error)),
            };
            let replayed = parse(record.into(), path)
                .and_then(|request| self.replay_request(servable, request, deadline));
            if let Err(error) = replayed {
                return End::Refused(error);
            }
            *records += 1;
            if *records > MAX_RECORDS {
                return End::Refused(ServingError::invalid_argument(format!(
                    "Number of warmup records exceeds the maximum ({MAX_RECORDS}) at {}",
                    path.display()
                )));
            }
        }
    }

    /// Runs one recorded request as often as the options say.
    fn replay_request(
        &self,
        servable: &ServableHandle,
        request: Option<Recorded>,
        deadline: Option<Instant>,
    ) -> Result<()> {
        let Some(request) = request else {
            warn!("a warmup record without a request is skipped");
            return Ok(());
        };
        let iterations = self.options.num_request_iterations.max(1);
        for _ in 0..iterations {
            let run = self.run(servable, request.clone());
            // Dropping a run stops it.
            self.runtime.block_on(async {
                match deadline {
                    Some(deadline) => timeout_at(deadline.into(), run)
                        .await
                        .unwrap_or_else(|_| Err(ServingError::deadline_exceeded())),
                    None => run.await,
                }
            })?;
        }
        Ok(())
    }

    /// Runs a request on `servable`, even if the request names another model.
    async fn run(&self, servable: &ServableHandle, request: Recorded) -> Result<()> {
        match request {
            Recorded::Predict(mut request) => {
                if let Ok(signature) = servable.signature(&request.signature_name) {
                    signature.update(&mut request.inputs, &mut request.output_filter);
                }
                self.inference.predict(servable, request).await.map(drop)
            }
            Recorded::Classify(request) => {
                self.inference.classify(servable, request).await.map(drop)
            }
            Recorded::Regress(request) => self.inference.regress(servable, request).await.map(drop),
            Recorded::MultiInference(request) => {
                let run = self.inference.multi_inference(servable, request);
                run.await.map(drop)
            }
        }
    }
}

/// The request of a record, which shares the record's memory; `None` if it has none.
fn parse(record: Bytes, path: &Path) -> Result<Option<Recorded>> {
    let log = pb::PredictionLog::decode(record.clone())
        .map_err(|error| unparsable(&record, path).caused_by(error))?;
    let Some(log) = log.log_type else {
        return Ok(None);
    };
    let request = match log {
        // Its tensors are read from the record, as those of a client are from its message.
        LogType::PredictLog(_) => Recorded::Predict(predict_request(&record, path)?),
        LogType::ClassifyLog(log) => {
            let mut request = log.request.unwrap_or_default();
            request.model_spec.get_or_insert_default();
            Recorded::Classify(classification::from_proto(request, None)?.1)
        }
        LogType::RegressLog(log) => {
            let mut request = log.request.unwrap_or_default();
            request.model_spec.get_or_insert_default();
            Recorded::Regress(regression::from_proto(request, None)?.1)
        }
        LogType::MultiInferenceLog(log) => {
            let request = log.request.unwrap_or_default();
            Recorded::MultiInference(multi_inference::from_proto(request, None).1)
        }
        LogType::PredictStreamedLog(_) => return Err(unsupported(7)),
        LogType::SessionRunLog(_) => return Err(unsupported(5)),
    };
    Ok(Some(request))
}

fn predict_request(record: &Bytes, path: &Path) -> Result<PredictRequest> {
    let message = prediction_log::predict_request_bytes(record);
    let message = message.map_err(|Malformed| unparsable(record, path))?;
    let call =
        PredictCall::decode(&message).map_err(|error| unparsable(record, path).caused_by(error))?;
    // A record needs no model spec: it is replayed on the version that it was found in.
    let signature_name = call.spec().map_or("", |(_, name)| name).to_owned();
    Ok(PredictRequest {
        signature_name,
        inputs: call.inputs,
        output_filter: call.output_filter,
        deadline: None,
    })
}

fn unparsable(record: &[u8], path: &Path) -> ServingError {
    let shown = &record[..record.len().min(MAX_SHOWN_BYTES)];
    ServingError::invalid_argument(format!(
        "Failed to parse warmup record: {} from {}",
        String::from_utf8_lossy(shown),
        path.display()
    ))
}

/// `number` is the request's field in `PredictionLog`.
fn unsupported(number: u32) -> ServingError {
    ServingError::unimplemented(format!("Unsupported log_type for warmup: {number}"))
}

fn explain(error: ServingError) -> ServingError {
    if error.code() != Code::DataLoss {
        return error;
    }
    let text = format!("{error}. Please verify your warmup data is in TFRecord format.");
    error.with_text(text)
}
