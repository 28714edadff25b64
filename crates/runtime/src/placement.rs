//! Where a run happens and on how many threads: on the worker that received the request (`inline_policy`), on
//! a thread of its own (`blocking_pool`), or in a batch (`lone_request`); on one thread or on the backend's
//! pool (`inline_policy`, `contention`).
//!
//! Not here: the threads that run batches (`serving::batching`).

pub(crate) mod blocking_pool;
#[cfg(feature = "onnxruntime")]
pub(crate) mod contention;
pub(crate) mod inline_policy;
pub(crate) mod lone_request;
mod priority;
