//! Every number of the decision, with the measurement behind it. `docs/internals/placement.md` has the
//! tables.

use std::time::Duration;

/// The numbers of the decision.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Constants {
    /// A worker always takes a run that is expected to take no longer than this.
    pub(crate) brief: Duration,
    /// A worker takes a run that is expected to take no longer than this if no other run is in flight, and
    /// such a run gets one thread.
    pub(crate) short: Duration,
    /// A run that takes this long was not merely a short one that the system interrupted.
    pub(crate) long: Duration,
    /// The number of short runs in a row after which the next is expected to be short.
    pub(crate) trials: usize,
    /// The number of runs on the pool after which one thread is tried again.
    pub(crate) retry_one_thread_after: usize,
    /// The number of runs after a contended one that are expected to be contended, too.
    pub(crate) contention_outlasts: usize,
    /// The number of batches of one request in a row after which the next request counts as lone.
    pub(crate) lone_after: usize,
    /// One in this many lone requests goes through the queue.
    pub(crate) lone_trial: usize,
    /// Models of up to this many bytes can run on one thread: they get a second session without a pool.
    #[cfg(feature = "onnxruntime")]
    pub(crate) max_bytes_of_two_sessions: usize,
    /// Runs of all models together that have a thread. Each model's first run comes on top.
    pub(crate) max_runs: usize,
    /// Runs of one model that have a thread, for each CPU.
    pub(crate) runs_of_model_per_cpu: usize,
    /// The least number of such runs of one model, for machines with few CPUs.
    pub(crate) min_runs_of_model: usize,
    /// A thread that has been idle for this long ends.
    pub(crate) keep_alive: Duration,
    /// A run on a thread that has lasted this long continues at a lower priority.
    pub(crate) low_priority_after: Duration,
    /// How much nicer such a run is.
    pub(crate) niceness: i32,
    /// A run on a thread that has lasted this long leaves one CPU to shorter runs.
    pub(crate) leave_cpu_after: Duration,
}

/// The numbers of this server.
pub(crate) const CONSTANTS: Constants = Constants {
    // About the time to decode a small request. A `half_plus_two` run takes 4 µs. With such runs always on
    // the worker, not only if no other run is in flight, a request takes 10 to 30 % less CPU time (63.5 µs
    // and 70.8 over gRPC with 8 connections, 32.0 and 42.6 over REST with 32).
    brief: Duration::from_micros(40),
    // An `mnist` run takes 92 µs. On the worker even if others run, it costs more CPU time (246 µs and 189
    // with 8 connections) and has 0.8 to 0.9 times the throughput; for a single client the worker has 1.2
    // times that of a thread. One thread is faster than two: 3.3 k/s and 2.7 with one connection, 8.6 and
    // 6.5 with 64.
    short: Duration::from_micros(200),
    // Five times `short`. Not measured.
    long: Duration::from_millis(1),
    // Not measured.
    trials: 8,
    // Not measured. Costs eight slower runs in a thousand if one thread is too slow.
    retry_one_thread_after: 1000,
    // `mnist` in batches that do not wait, k/s after 1 and 8 runs: 34.1 and 36.0 with 64 connections, 30.0
    // and 31.3 with 16. Two concurrent batches of 32 take 42 µs of CPU an image on one thread each, 65 to
    // 90 on two each.
    contention_outlasts: 8,
    // On one CPU a worker that runs batches receives no request that could join them: without this rule
    // `mnist` had 6.5 and 9.2 k/s with 64 connections, with it 12.4 and 10.8 (two alternating rounds).
    lone_after: 8,
    // 1.6 % of the requests of a single client go through a batch thread.
    lone_trial: 64,
    // Not measured. Models with more weights seldom have short runs, and kernels that pack weights keep a copy
    // for each session.
    #[cfg(feature = "onnxruntime")]
    max_bytes_of_two_sessions: 16 << 20,
    // tokio's number for threads that block. Not measured.
    max_runs: 512,
    // One run keeps a CPU busy; with more, a short run does not have to wait for long ones of the same
    // model. Each additional one costs other models latency: if a thread loses its CPU while it holds a lock
    // of ONNX Runtime's arena or of the kernel, all wait until it runs again.
    runs_of_model_per_cpu: 3,
    min_runs_of_model: 6,
    // tokio's number.
    keep_alive: Duration::from_secs(10),
    // Not measured.
    low_priority_after: Duration::from_secs(1),
    // A tenth of the CPU time of a run of usual priority (sched(7)).
    niceness: 10,
    // With 100 endless runs on two CPUs, p99 of small requests is 1.55 times that of a quiet server with this
    // rule (docs/reliability.md), 2.4 times without. A run that is not endless loses little: the thread pool of
    // ONNX Runtime keeps all CPUs. The time itself was not measured.
    leave_cpu_after: Duration::from_secs(2),
};
