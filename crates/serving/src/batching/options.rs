//! The batching parameters, and their validation.
//!
//! Not here: the text file they come from (`config`).

use std::num::NonZeroUsize;
use std::time::Duration;

use base::error::{Result, ServingError};

/// The parameters of batching: `BatchingParameters` (`session_bundle_config.proto`) with
/// TensorFlow Serving's defaults, and one of our own.
///
/// The numbers are as the user wrote them: [`QueueLimits::try_new`] and
/// [`BatchScheduler::try_new`](super::BatchScheduler::try_new) check them.
#[derive(Clone, Debug, PartialEq)]
pub struct BatchingOptions {
    /// The maximum number of rows of one request and, without splitting, of one batch.
    pub max_batch_size: i64,
    /// How long a batch that is not full waits for more requests.
    pub batch_timeout_micros: i64,
    /// The maximum number of batches in a queue.
    pub max_enqueued_batches: i64,
    /// The number of threads that run batches, for all models together.
    pub num_batch_threads: i64,
    /// The name of these threads.
    pub thread_pool_name: String,
    /// A batch is padded to the next of these sizes; empty leaves batches as they are.
    pub allowed_batch_sizes: Vec<i64>,
    /// Whether requests whose inputs differ in shape are padded to one shape.
    pub pad_variable_length_inputs: bool,
    /// Whether a request can be spread over several batches.
    pub enable_large_batch_splitting: bool,
    /// The maximum number of rows of one batch with splitting; `None` is `max_batch_size`.
    pub max_execution_batch_size: Option<i64>,
    /// `--adaptive_batching`: a batch waits for more requests only while its model is busy.
    /// TensorFlow Serving does not have it.
    pub adaptive: bool,
}

impl Default for BatchingOptions {
    /// The parameters of `--enable_batching` alone (`server.cc`, `session_bundle_config.proto`).
    fn default() -> Self {
        Self {
            max_batch_size: 1000,
            batch_timeout_micros: 0,
            max_enqueued_batches: 10,
            num_batch_threads: schedulable_cpus(),
            thread_pool_name: "model_server_batch_threads".to_owned(),
            allowed_batch_sizes: Vec::new(),
            pad_variable_length_inputs: false,
            enable_large_batch_splitting: false,
            max_execution_batch_size: None,
            adaptive: false,
        }
    }
}

/// The CPUs that this process is allowed to use, limited by the quota of its control group.
fn schedulable_cpus() -> i64 {
    let cpus = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    i64::try_from(cpus).unwrap_or(1)
}

/// The checked parameters of one queue.
#[derive(Clone, Debug)]
pub struct QueueLimits {
    pub(super) max_task_rows: usize,
    pub(super) max_batch_rows: usize,
    pub(super) timeout: Duration,
    pub(super) max_batches: usize,
    pub(super) allowed_rows: Vec<usize>,
    pub(super) pad: bool,
    pub(super) split: bool,
    pub(super) adaptive: bool,
}

impl QueueLimits {
    /// Checks the parameters of queues. The scheduler checks those of the threads.
    ///
    /// # Errors
    ///
    /// `INVALID_ARGUMENT` with the texts of `bundle_factory_util.cc` and
    /// `shared_batch_scheduler.h`; they fail the load of a model.
    pub fn try_new(options: &BatchingOptions) -> Result<Self> {
        let max = options.max_batch_size;
        if let Some(&last) = options.allowed_batch_sizes.last()
            && last != max
        {
            return Err(ServingError::invalid_argument(format!(
                "Last entry in allowed_batch_sizes must match max_batch_size; last entry was \
                 {last}; expected {max}"
            )));
        }
        let max_task_rows = positive("input_batch_size_limit", max)?;
        let micros = options.batch_timeout_micros;
        let micros = u64::try_from(micros).map_err(|_| {
            ServingError::invalid_argument(format!(
                "batch_timeout_micros must be non-negative; was {micros}"
            ))
        })?;
        let split = options.enable_large_batch_splitting;
        Ok(Self {
            max_task_rows,
            max_batch_rows: max_batch_rows(options, max_task_rows)?,
            timeout: Duration::from_micros(micros),
            // Without splitting, 0 counts as 1: a queue always has one batch to fill.
            max_batches: match options.max_enqueued_batches {
                0 if !split => 1,
                batches => positive("max_enqueued_batches", batches)?,
            },
            allowed_rows: allowed_rows(options),
            pad: options.pad_variable_length_inputs,
            split,
            adaptive: options.adaptive,
        })
    }

    /// The size with which a batch of `rows` is run: the first allowed one that is large enough.
    pub(super) fn padded_rows(&self, rows: usize) -> usize {
        let mut allowed = self.allowed_rows.iter().copied();
        allowed.find(|&it| it >= rows).unwrap_or(rows)
    }
}

fn max_batch_rows(options: &BatchingOptions, max_task_rows: usize) -> Result<usize> {
    if !options.enable_large_batch_splitting {
        return Ok(max_task_rows);
    }
    let Some(execution) = options.max_execution_batch_size else {
        return Ok(max_task_rows);
    };
    let max = options.max_batch_size;
    if max < execution {
        // TensorFlow Serving appends the numbers without spaces, after a 1.
        return Err(ServingError::invalid_argument(format!(
            "When enable_large_batch_splitting is true, input_batch_size_limit must be greater \
             than or equal to max_execution_batch_size.1{max}{execution}"
        )));
    }
    positive("max_execution_batch_size", execution)
}

/// As in TensorFlow Serving, an order that is not increasing is accepted, though it makes little sense.
fn allowed_rows(options: &BatchingOptions) -> Vec<usize> {
    let sizes = &options.allowed_batch_sizes;
    if !sizes.is_sorted() {
        tracing::warn!(?sizes, "allowed_batch_sizes is not increasing");
    }
    let sizes = sizes.iter().map(|&size| usize::try_from(size).unwrap_or(0));
    sizes.collect()
}

fn positive(name: &str, value: i64) -> Result<usize> {
    match usize::try_from(value) {
        Ok(value) if value > 0 => Ok(value),
        _ => Err(ServingError::invalid_argument(format!(
            "{name} must be positive; was {value}"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use base::error::Code;

    #[test]
    fn defaults_are_the_originals() {
        let options = BatchingOptions::default();
        let limits = QueueLimits::try_new(&options).unwrap();
        assert_eq!(limits.max_task_rows, 1000);
        assert_eq!(limits.max_batch_rows, 1000);
        assert_eq!(limits.timeout, Duration::ZERO);
        assert_eq!(limits.max_batches, 10);
        assert!(!limits.pad && !limits.split && !limits.adaptive);
        assert!(options.num_batch_threads >= 1);
    }

    #[test]
    fn wrong_parameters_have_the_originals_texts() {
        check_rejected(
            |it| (it.max_batch_size, it.allowed_batch_sizes) = (2, vec![1, 3]),
            "Last entry in allowed_batch_sizes must match max_batch_size; last entry was 3; \
             expected 2",
        );
        // UnsortedAllowedBatchSizesRejected of `batching_session_test.cc`.
        check_rejected(
            |it| (it.max_batch_size, it.allowed_batch_sizes) = (4, vec![4, 2]),
            "Last entry in allowed_batch_sizes must match max_batch_size; last entry was 2; \
             expected 4",
        );
        check_rejected(
            |it| it.max_batch_size = 0,
            "input_batch_size_limit must be positive; was 0",
        );
        check_rejected(
            |it| it.batch_timeout_micros = -1,
            "batch_timeout_micros must be non-negative; was -1",
        );
        check_rejected(
            |it| (it.enable_large_batch_splitting, it.max_enqueued_batches) = (true, 0),
            "max_enqueued_batches must be positive; was 0",
        );
        check_rejected(
            |it| {
                it.enable_large_batch_splitting = true;
                it.max_batch_size = 3;
                it.max_execution_batch_size = Some(4);
            },
            "When enable_large_batch_splitting is true, input_batch_size_limit must be greater \
             than or equal to max_execution_batch_size.134",
        );
        check_rejected(
            |it| (it.enable_large_batch_splitting, it.max_execution_batch_size) = (true, Some(0)),
            "max_execution_batch_size must be positive; was 0",
        );
    }

    #[test]
    fn last_allowed_size_is_compared_with_max_batch_size_when_splitting() {
        check_rejected(
            |it| {
                it.enable_large_batch_splitting = true;
                it.max_batch_size = 8;
                it.max_execution_batch_size = Some(4);
                it.allowed_batch_sizes = vec![2, 4];
            },
            "Last entry in allowed_batch_sizes must match max_batch_size; last entry was 4; \
             expected 8",
        );
    }

    #[test]
    fn no_enqueued_batches_count_as_one() {
        let options = BatchingOptions {
            max_enqueued_batches: 0,
            ..BatchingOptions::default()
        };
        assert_eq!(QueueLimits::try_new(&options).unwrap().max_batches, 1);
    }

    #[test]
    fn execution_size_counts_only_with_splitting() {
        let mut options = BatchingOptions {
            max_batch_size: 8,
            max_execution_batch_size: Some(4),
            ..BatchingOptions::default()
        };
        assert_eq!(QueueLimits::try_new(&options).unwrap().max_batch_rows, 8);
        options.enable_large_batch_splitting = true;
        assert_eq!(QueueLimits::try_new(&options).unwrap().max_batch_rows, 4);
    }

    #[track_caller]
    fn check_rejected(change: impl FnOnce(&mut BatchingOptions), text: &str) {
        let mut options = BatchingOptions::default();
        change(&mut options);
        let error = QueueLimits::try_new(&options).unwrap_err();
        assert_eq!(error.code(), Code::InvalidArgument);
        assert_eq!(error.to_string(), text);
    }
}
