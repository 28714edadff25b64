//! Counts requests, once each, when the answer is ready, and notes the same for the access log and
//! traces.
//!
//! Not here: the metrics themselves (`monitoring`), and the latency of runs (`inference`).

use std::sync::Arc;
use std::time::Instant;

use crate::error::{Code, ServingError};
use crate::id::ServableId;
use crate::monitoring::{Api, Metrics, Protocol, RequestLabels};
use crate::telemetry::{Outcome, note_outcome};

/// Which servable and signature a request was answered by.
pub(super) struct AnsweredBy<'a> {
    pub(super) servable: &'a ServableId,
    /// `None` where the call is not about one.
    pub(super) signature: Option<&'a str>,
}

/// A request that is being answered.
pub(super) struct Observation {
    metrics: Arc<Metrics>,
    protocol: Protocol,
    api: Api,
    model: String,
    started: Instant,
}

impl Observation {
    /// Begins now; `model` is the name as the client sent it.
    pub(super) fn start(
        metrics: &Arc<Metrics>,
        protocol: Protocol,
        api: Api,
        model: impl Into<String>,
    ) -> Self {
        Self {
            metrics: Arc::clone(metrics),
            protocol,
            api,
            model: model.into(),
            started: Instant::now(),
        }
    }

    /// Counts the request as answered.
    pub(super) fn end(self, outcome: Result<AnsweredBy<'_>, &ServingError>) {
        let (code, answered_by) = match outcome {
            Ok(answered_by) => (Code::Ok, Some(answered_by)),
            Err(error) => (error.code(), None),
        };
        self.end_with_code(code, answered_by);
    }

    /// As [`end`](Self::end), where only the code is known.
    pub(super) fn end_with_code(self, code: Code, answered_by: Option<AnsweredBy<'_>>) {
        let labels = RequestLabels {
            protocol: self.protocol,
            api: self.api,
            model: &self.model,
            version: answered_by.as_ref().map(|it| it.servable.version),
            signature: answered_by.as_ref().and_then(|it| it.signature),
        };
        self.metrics
            .record_request(&labels, code.name(), self.started.elapsed());
        note_outcome(&Outcome {
            api: labels.api.label(),
            model: labels.model,
            version: labels.version,
            signature: labels.signature,
            code,
        });
    }
}
