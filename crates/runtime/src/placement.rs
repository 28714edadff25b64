//! Where a run happens and on how many threads: one decision, with its reason and its counter.
//!
//! | Placement | Threads |
//! | --- | --- |
//! | inline, on the worker that received the request | one, or the backend's pool |
//! | on a thread for runs (`blocking_pool`) | one, or the backend's pool |
//! | in a batch, on a batch thread | one, or the backend's pool |
//!
//! `graph` makes the decision, with the numbers in `constants`, from earlier runs: `expectation`, `contention`
//! and `lone_request`. `--learn_run_placement=false` switches all three off.
//!
//! Not here: the threads that run batches and the size of batches (`serving::batching`).

mod decision;
mod graph;

mod constants;
mod contention;
mod counts;
mod expectation;
mod lone_request;
mod shape;

pub(crate) mod blocking_pool;
mod priority;

#[cfg(feature = "onnxruntime")]
pub(crate) use self::constants::CONSTANTS;
pub use self::counts::PlacementCounts;
pub use self::decision::{Placement, Reason, Threads};
pub use self::graph::{Begun, Decision, GraphPlacement, GraphThreads, Placements};
pub use self::shape::RunShape;
