//! Counts each request once, when the answer is ready, and notes the same facts for the access log and
//! traces.
//!
//! Not here: the metrics themselves (`monitoring`), and the latency of runs (`inference`).

use std::sync::Arc;
use std::time::Instant;

use base::error::Code;
use base::id::ServableId;
use base::vocabulary::{Api, Protocol};
use serving::monitoring::{Metrics, RequestLabels};
use serving::servable::Servable;
use serving::telemetry::{RequestOutcome, note_outcome};

/// The servable and signature that answered a request.
pub struct AnsweredBy<'a> {
    /// The version that answered.
    pub servable: &'a ServableId,
    /// `None` if the call is not about a signature.
    pub signature: Option<&'a str>,
}

/// A request that is being answered.
///
/// If it is dropped before its end, the client cancelled it or the handler panicked: it is counted as
/// `CANCELLED` or `INTERNAL`.
pub(super) struct Observation {
    metrics: Arc<Metrics>,
    protocol: Protocol,
    api: Api,
    model: String,
    started: Instant,
    version: Option<i64>,
    signature: Option<String>,
    is_counted: bool,
}

impl Observation {
    /// Starts the clock; `model` is the name that the client sent.
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
            version: None,
            signature: None,
            is_counted: false,
        }
    }

    /// Notes the version that the request was resolved to, and its signature if the version has it, so that
    /// failures are counted with them, too.
    pub(super) fn reached(&mut self, servable: &Servable, signature_name: Option<&str>) {
        let signature = signature_name.and_then(|name| servable.signature(name).ok());
        self.version = Some(servable.id.version);
        self.signature = signature.map(|it| it.name.clone());
    }

    /// Counts nothing unless it is [restarted](Self::restart).
    pub(super) fn leave_uncounted(&mut self) {
        self.is_counted = true;
    }

    /// Starts the clock again, at the handler; `model` is the name in the message.
    pub(super) fn restart(&mut self, model: &str) {
        model.clone_into(&mut self.model);
        self.started = Instant::now();
        self.is_counted = false;
    }

    /// Counts the request as answered.
    pub(super) fn count(&mut self, code: Code, answered_by: Option<AnsweredBy<'_>>) {
        let labels = RequestLabels {
            protocol: self.protocol,
            api: self.api,
            model: &self.model,
            version: match &answered_by {
                Some(answered_by) => Some(answered_by.servable.version),
                None => self.version,
            },
            signature: match &answered_by {
                Some(answered_by) => answered_by.signature,
                None => self.signature.as_deref(),
            },
        };
        self.metrics
            .record_request(&labels, code.name(), self.started.elapsed());
        note_outcome(&RequestOutcome {
            api: labels.api.label(),
            model: labels.model,
            version: labels.version,
            signature: labels.signature,
            code,
        });
        self.is_counted = true;
    }
}

impl Drop for Observation {
    fn drop(&mut self) {
        if self.is_counted {
            return;
        }
        let code = if std::thread::panicking() {
            Code::Internal
        } else {
            Code::Cancelled
        };
        self.count(code, None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_that_is_given_up_is_counted() {
        let metrics = Arc::new(Metrics::new());
        let start = || Observation::start(&metrics, Protocol::Grpc, Api::Predict, "");
        drop(start());
        let in_a_panic = std::panic::AssertUnwindSafe(|| {
            let _observation = start();
            panic!("a handler's");
        });
        std::panic::catch_unwind(in_a_panic).unwrap_err();
        start().count(Code::NotFound, None);

        let page = metrics.page();
        for code in ["CANCELLED", "INTERNAL", "NOT_FOUND"] {
            let code = format!("code=\"{code}\"");
            let mut lines = page.lines().filter(|line| line.contains(&code));
            assert!(lines.next().is_some_and(|it| it.ends_with(" 1")), "{page}");
        }
    }
}
