//! The number of threads of one model's session.

use super::table::Flags;

/// More threads than this would not help any model, and could exhaust the process.
const MAX_THREADS: usize = 1024;

/// Thread counts of a session; 0 leaves the choice to ONNX Runtime.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SessionThreads {
    /// Within an operator.
    pub intra_op: usize,
    /// Across operators. More than 1 asks for parallel execution.
    pub inter_op: usize,
}

impl Flags {
    /// The thread counts of every session. `from_file` holds those of
    /// `--tensorflow_session_config_file`.
    ///
    /// The flags come first, as in `server.cc`: if `--tensorflow_intra_op_parallelism` or
    /// `--tensorflow_inter_op_parallelism` is positive, these two count, else
    /// `--tensorflow_session_parallelism` counts for both. If the result is 0, the file's value is
    /// used. TensorFlow Serving overwrites that with 0, which makes counts in the file useless. A count
    /// above 1024 becomes 1024.
    pub fn session_threads(&self, from_file: SessionThreads) -> SessionThreads {
        let intra_op = self.tensorflow_intra_op_parallelism;
        let inter_op = self.tensorflow_inter_op_parallelism;
        let (intra_op, inter_op) = if intra_op > 0 || inter_op > 0 {
            (intra_op, inter_op)
        } else {
            let both = self.tensorflow_session_parallelism;
            (both, both)
        };
        SessionThreads {
            intra_op: positive_or(intra_op, from_file.intra_op),
            inter_op: positive_or(inter_op, from_file.inter_op),
        }
    }
}

fn positive_or(count: i64, otherwise: usize) -> usize {
    let count = match usize::try_from(count) {
        Ok(count) if count > 0 => count,
        _ => otherwise,
    };
    count.min(MAX_THREADS)
}
