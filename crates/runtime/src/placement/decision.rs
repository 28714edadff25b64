//! The possible decisions about a run and their reasons, which are the labels of the counter on `/metrics`
//! (`docs/metrics.md`).
//!
//! Not here: making the decision (`graph`).

/// Where a run happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placement {
    /// On the thread of the caller, between serving sockets.
    Inline,
    /// On a thread for runs.
    Thread,
    /// On a batch thread.
    Batch,
}

/// On how many threads a run happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Threads {
    /// The thread that makes the run.
    One,
    /// The threads of the backend's pool.
    Pool,
}

/// Why a run happens where it does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Inline: it is expected to be brief.
    Brief,
    /// Inline: it is expected to be short, and no other run is in flight.
    ShortAndAlone,
    /// It is expected to be short, but another run is in flight.
    OtherRuns,
    /// Earlier runs were not short, or not enough of them were like this one.
    NotShort,
    /// Values in the request decide how long it takes.
    ValuesDecide,
    /// An input has no elements.
    EmptyInput,
    /// In a batch: it serves several requests.
    SeveralRequests,
    /// In a batch: another batch of the graph is in flight.
    BatchInFlight,
    /// In a batch: other requests are likely to join it.
    OthersCanJoin,
    /// In a batch: it waits for its timeout, or behind other batches.
    Waits,
    /// `--learn_run_placement=false`.
    LearningOff,
}

impl Placement {
    pub(super) const ALL: [Self; 3] = [Self::Inline, Self::Thread, Self::Batch];

    /// The value of the label `placement`.
    pub fn label(self) -> &'static str {
        match self {
            Self::Inline => "inline",
            Self::Thread => "thread",
            Self::Batch => "batch",
        }
    }
}

impl Threads {
    pub(super) const ALL: [Self; 2] = [Self::One, Self::Pool];

    /// The value of the label `threads`.
    pub fn label(self) -> &'static str {
        match self {
            Self::One => "one",
            Self::Pool => "pool",
        }
    }
}

impl Reason {
    /// All reasons, in the order of their declaration.
    pub const ALL: [Self; 11] = [
        Self::Brief,
        Self::ShortAndAlone,
        Self::OtherRuns,
        Self::NotShort,
        Self::ValuesDecide,
        Self::EmptyInput,
        Self::SeveralRequests,
        Self::BatchInFlight,
        Self::OthersCanJoin,
        Self::Waits,
        Self::LearningOff,
    ];

    /// The value of the label `reason`.
    pub fn label(self) -> &'static str {
        match self {
            Self::Brief => "brief",
            Self::ShortAndAlone => "short_and_alone",
            Self::OtherRuns => "other_runs",
            Self::NotShort => "not_short",
            Self::ValuesDecide => "values_decide",
            Self::EmptyInput => "empty_input",
            Self::SeveralRequests => "several_requests",
            Self::BatchInFlight => "batch_in_flight",
            Self::OthersCanJoin => "others_can_join",
            Self::Waits => "waits",
            Self::LearningOff => "learning_off",
        }
    }
}
