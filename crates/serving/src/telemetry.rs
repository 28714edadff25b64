//! Collects facts about each request while it is answered. When it ends they become a line of the
//! access log and a trace for an OpenTelemetry collector.
//!
//! A transport makes a [`RequestRecord`] for each request and polls its handlers within
//! [`RequestRecord::scope`]. Any code that learns a fact records it with the functions `note_…`,
//! which do nothing outside of a scope. If all is switched off, each costs one look at a
//! thread-local variable.
//!
//! Not here: HTTP headers and bodies (`api::access::access_log_layer`), metrics (`monitoring`), the process's
//! log (`logging`), copies of requests and responses (`request_log`).

mod access_log;
mod ids;
#[cfg(feature = "otlp")]
mod otlp;
mod record;

use base::error::Result;
#[cfg(not(feature = "otlp"))]
use base::error::ServingError;

pub use self::access_log::{AccessLog, AccessLogMode, is_sampled};
pub use self::ids::{RequestId, TraceParent, random};
#[cfg(feature = "otlp")]
use self::otlp::Tracer;
pub use self::record::{
    RequestHead, RequestOutcome, RequestRecord, Stage, note_identity, note_outcome, note_stage,
};

/// The flags for the access log and traces.
#[derive(Clone, Debug, Default)]
pub struct ObserverOptions {
    /// Which requests are logged.
    pub access_log: AccessLog,
    /// Where traces are sent; `None` if they are off.
    pub otlp: Option<OtlpOptions>,
}

/// The OpenTelemetry collector.
#[derive(Clone, Debug)]
pub struct OtlpOptions {
    /// `--otlp_endpoint`, for example `http://localhost:4317`.
    pub endpoint: String,
    /// `--otlp_sampling_rate`, from 0 to 1: the share of requests to trace if the client has not
    /// decided.
    pub sampling_rate: f64,
}

/// Receives finished [`RequestRecord`]s. One per server.
#[derive(Debug, Default)]
pub struct Observer {
    access_log: AccessLog,
    #[cfg(feature = "otlp")]
    tracer: Option<Tracer>,
}

impl Observer {
    /// An observer with these options. Has to be called within a runtime.
    ///
    /// # Errors
    ///
    /// `INVALID_ARGUMENT` for an endpoint that is not an `http://` URL; `UNIMPLEMENTED` for any
    /// endpoint if this build does not support traces.
    #[cfg(feature = "otlp")]
    pub fn try_new(options: &ObserverOptions) -> Result<Self> {
        Ok(Self {
            access_log: options.access_log,
            tracer: options.otlp.as_ref().map(Tracer::try_new).transpose()?,
        })
    }

    /// An observer with these options.
    ///
    /// # Errors
    ///
    /// `UNIMPLEMENTED` for traces, which this build does not support.
    #[cfg(not(feature = "otlp"))]
    pub fn try_new(options: &ObserverOptions) -> Result<Self> {
        if options.otlp.is_some() {
            return Err(ServingError::unimplemented(
                "--otlp_endpoint: built without the feature otlp",
            ));
        }
        Ok(Self {
            access_log: options.access_log,
        })
    }

    /// The same observer without traces, for requests about the server itself.
    #[must_use]
    pub fn without_traces(&self) -> Self {
        Self {
            access_log: self.access_log,
            #[cfg(feature = "otlp")]
            tracer: None,
        }
    }

    /// Whether requests have to be recorded.
    pub fn is_on(&self) -> bool {
        self.access_log.is_on() || self.traces()
    }

    #[cfg(feature = "otlp")]
    fn traces(&self) -> bool {
        self.tracer.is_some()
    }

    #[cfg(not(feature = "otlp"))]
    fn traces(&self) -> bool {
        false
    }

    /// Receives the record of a request that has just ended.
    pub fn finish(&self, record: &RequestRecord) {
        let finished = record.finish();
        #[cfg(feature = "otlp")]
        let trace_id = match &self.tracer {
            Some(tracer) => tracer.export(record, &finished),
            None => record.trace_id(),
        };
        #[cfg(not(feature = "otlp"))]
        let trace_id = record.trace_id();
        self.access_log.write(record, &finished, trace_id);
    }

    /// Sends the remaining traces. Can block for some seconds.
    pub fn shutdown(&self) {
        #[cfg(feature = "otlp")]
        if let Some(tracer) = &self.tracer {
            tracer.shutdown();
        }
    }
}
