//! Merges many small requests into few large runs, under TensorFlow Serving's batching parameters.
//!
//! A [`BatchingExecutor`] wraps the executor of one signature and puts requests into queues. The
//! threads of the one [`BatchScheduler`] take batches from the queues of all models, merge their
//! inputs, run the graph once and give each request its rows of the outputs.
//! `docs/batching.md` explains the rules to users.
//!
//! Not here: the meaning of requests (`inference`), where parameters are read (`config`), which
//! servables are batched (`lifecycle`).

mod executor;
mod options;

mod scheduler;

mod batch;
mod batch_size_tuner;
mod queue;
mod queues;
mod task;
mod ticket;

mod metrics;
mod rows;

#[cfg(test)]
mod fake;
#[cfg(test)]
mod tests;

pub use self::executor::BatchingExecutor;
pub use self::metrics::BatchMetrics;
pub use self::options::{BatchingOptions, QueueLimits};
pub use self::scheduler::BatchScheduler;
