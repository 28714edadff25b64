//! One request as its transport and its handlers see it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use super::ids::{RequestId, TraceParent};
use base::error::Code;

/// Names that clients choose are cut to this length.
const MAX_NAME_BYTES: usize = 256;
/// A MultiInference has a run for each of its tasks; stages beyond this number are dropped.
const MAX_STAGES: usize = 64;

tokio::task_local! {
    /// The request whose handler is being polled.
    static CURRENT: Arc<RequestRecord>;
}

/// The facts that are known when a request arrives.
#[derive(Debug)]
pub struct RequestHead {
    /// `grpc`, `rest`, or `admin` for HTTP on the admin port.
    pub protocol: &'static str,
    /// The HTTP method.
    pub method: String,
    /// The path without the query, because clients put secrets there.
    pub path: String,
    /// The client's id, or a new one.
    pub id: RequestId,
    /// The client's trace, if it has one.
    pub parent: Option<TraceParent>,
    /// The header `tracestate`, to be passed on.
    pub trace_state: Option<String>,
}

/// A request that is being answered.
#[derive(Debug)]
pub struct RequestRecord {
    pub(super) head: RequestHead,
    pub(super) began: Instant,
    #[cfg_attr(not(feature = "otlp"), expect(dead_code, reason = "for traces"))]
    pub(super) began_at: SystemTime,
    bytes_in: AtomicU64,
    bytes_out: AtomicU64,
    /// Held only for a few instructions.
    details: Mutex<Details>,
}

/// The facts that become known while the request is answered.
#[derive(Clone, Debug, Default)]
pub(super) struct Details {
    pub(super) api: Option<&'static str>,
    pub(super) model: Option<String>,
    pub(super) version: Option<i64>,
    pub(super) signature: Option<String>,
    pub(super) code: Option<Code>,
    pub(super) http_status: Option<u16>,
    pub(super) identity: Option<String>,
    pub(super) stages: Vec<(Stage, Instant, Instant)>,
}

/// A part of the work on a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// From bytes to tensors.
    Decode,
    /// Waiting for the run to begin.
    Queue,
    /// The run of the graph.
    Run,
    /// From tensors to bytes.
    Encode,
}

impl Stage {
    #[cfg_attr(not(feature = "otlp"), expect(dead_code, reason = "for traces"))]
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Decode => "decode",
            Self::Queue => "queue",
            Self::Run => "run",
            Self::Encode => "encode",
        }
    }
}

/// The end of a request, as far as its handler knows it.
#[derive(Clone, Copy, Debug)]
pub struct RequestOutcome<'a> {
    /// The call: `predict`, `metadata`, ...
    pub api: &'static str,
    /// The model as the client named it; empty if it could not be read.
    pub model: &'a str,
    /// The version that answered.
    pub version: Option<i64>,
    /// The signature that answered.
    pub signature: Option<&'a str>,
    /// The canonical code.
    pub code: Code,
}

/// The final contents of a record.
pub(super) struct Finished {
    pub(super) details: Details,
    pub(super) elapsed: Duration,
    pub(super) bytes_in: u64,
    pub(super) bytes_out: u64,
}

impl Finished {
    /// Whether the client got an error.
    pub(super) fn is_error(&self) -> bool {
        self.details.code.is_some_and(|code| code != Code::Ok)
            || self.details.http_status.is_some_and(|status| status >= 400)
    }
}

impl RequestRecord {
    /// A request that has just arrived.
    pub fn new(head: RequestHead) -> Arc<Self> {
        let path = shortened(&head.path);
        Arc::new(Self {
            head: RequestHead { path, ..head },
            began: Instant::now(),
            began_at: SystemTime::now(),
            bytes_in: AtomicU64::new(0),
            bytes_out: AtomicU64::new(0),
            details: Mutex::default(),
        })
    }

    /// Calls `poll`. Everything noted during the call is noted in this record.
    pub fn scope<T>(self: &Arc<Self>, poll: impl FnOnce() -> T) -> T {
        CURRENT.sync_scope(Arc::clone(self), poll)
    }

    /// The id, which is also returned to the client.
    pub fn id(&self) -> &RequestId {
        &self.head.id
    }

    /// Counts bytes of the request's body.
    pub fn add_bytes_in(&self, bytes: usize) {
        self.bytes_in.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Counts bytes of the response's body.
    pub fn add_bytes_out(&self, bytes: usize) {
        self.bytes_out.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Records the status of an HTTP response.
    pub fn set_http_status(&self, status: u16) {
        self.details().http_status = Some(status);
    }

    /// Records how the call ended, unless a handler has already done so.
    pub fn set_code_if_unknown(&self, code: Code) {
        self.details().code.get_or_insert(code);
    }

    /// Records that the client left before it had its response. Overrides the handlers' code.
    pub fn set_cancelled(&self) {
        self.details().code = Some(Code::Cancelled);
    }

    pub(super) fn finish(&self) -> Finished {
        Finished {
            details: std::mem::take(&mut *self.details()),
            elapsed: self.began.elapsed(),
            bytes_in: self.bytes_in.load(Ordering::Relaxed),
            bytes_out: self.bytes_out.load(Ordering::Relaxed),
        }
    }

    /// The trace that the client began.
    pub(super) fn trace_id(&self) -> Option<u128> {
        self.head.parent.map(|parent| parent.trace_id)
    }

    fn details(&self) -> MutexGuard<'_, Details> {
        self.details.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Records how the current request ended.
pub fn note_outcome(outcome: &RequestOutcome<'_>) {
    note(|details| {
        details.api = Some(outcome.api);
        details.model = Some(outcome.model)
            .filter(|model| !model.is_empty())
            .map(shortened);
        details.version = outcome.version;
        details.signature = outcome.signature.map(shortened);
        details.code = Some(outcome.code);
    });
}

/// Records the identity of the current request's client.
pub fn note_identity(identity: &str) {
    note(|details| details.identity = Some(shortened(identity)));
}

/// Records a part of the work on the current request.
pub fn note_stage(stage: Stage, from: Instant, to: Instant) {
    note(|details| {
        if details.stages.len() < MAX_STAGES {
            details.stages.push((stage, from, to));
        }
    });
}

fn note(change: impl FnOnce(&mut Details)) {
    // Outside of a scope nothing is recorded.
    let _ = CURRENT.try_with(|record| change(&mut record.details()));
}

fn shortened(name: &str) -> String {
    name[..name.floor_char_boundary(MAX_NAME_BYTES)].to_owned()
}
