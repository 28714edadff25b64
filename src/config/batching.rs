//! The parameters of batching: finding their file, and converting them to `batching`'s own struct.
//!
//! Not here: their meaning and their checks (`batching`).

use std::path::Path;

use bytes::Bytes;

use super::files::read_batching_parameters;
use super::flags::Flags;
use base::error::Result;
use codec::proto_text;
use proto::tensorflow::serving::BatchingParameters;
use serving::batching::BatchingOptions;

/// The file in a version directory with the batching parameters of that version.
const VERSION_PARAMETERS: &str = "batching_params.pbtxt";
/// The largest such file that is read.
const MAX_VERSION_PARAMETERS_BYTES: u64 = 1 << 20;
/// The name of the threads if a file does not set it (`bundle_factory_util.cc`).
const DEFAULT_POOL_NAME: &str = "batch_threads";

/// The options from `--enable_batching` and `--batching_parameters_file`; `None` without batching.
///
/// # Errors
///
/// Those of [`read_batching_parameters`].
pub fn batching_options(flags: &Flags) -> Result<Option<BatchingOptions>> {
    if !flags.enable_batching {
        return Ok(None);
    }
    if flags.batching_parameters_file.is_empty() {
        return Ok(Some(BatchingOptions::default()));
    }
    let path = Path::new(&flags.batching_parameters_file);
    read_batching_parameters(path).map(|it| Some(from_message(it)))
}

/// The options from a version's own `batching_params.pbtxt`. Without that file `None`, and the version
/// is not batched (`--enable_per_model_batching_parameters`). The number and name of the threads are
/// always the server's, even if the file sets them. `read` returns the contents of a file in
/// `directory`, up to the given number of bytes.
///
/// # Errors
///
/// Those of `read`; `INVALID_ARGUMENT` `Invalid protobuf file: '<path>'` for a file that does not
/// parse; the log has the position.
pub fn version_batching_options(
    directory: &Path,
    read: impl FnOnce(&str, u64) -> Result<Option<Bytes>>,
) -> Result<Option<BatchingOptions>> {
    let Some(text) = read(VERSION_PARAMETERS, MAX_VERSION_PARAMETERS_BYTES)? else {
        return Ok(None);
    };
    let path = directory.join(VERSION_PARAMETERS);
    proto_text::parse_file(&path, &text).map(|it| Some(from_message(it)))
}

fn from_message(message: BatchingParameters) -> BatchingOptions {
    let defaults = BatchingOptions::default();
    let or = |value: Option<i64>, default| value.unwrap_or(default);
    BatchingOptions {
        max_batch_size: or(message.max_batch_size, defaults.max_batch_size),
        batch_timeout_micros: or(message.batch_timeout_micros, defaults.batch_timeout_micros),
        max_enqueued_batches: or(message.max_enqueued_batches, defaults.max_enqueued_batches),
        num_batch_threads: or(message.num_batch_threads, defaults.num_batch_threads),
        thread_pool_name: message
            .thread_pool_name
            .unwrap_or_else(|| DEFAULT_POOL_NAME.to_owned()),
        allowed_batch_sizes: message.allowed_batch_sizes,
        pad_variable_length_inputs: message.pad_variable_length_inputs,
        enable_large_batch_splitting: message.enable_large_batch_splitting.unwrap_or(false),
        max_execution_batch_size: message.max_execution_batch_size,
        adaptive: defaults.adaptive,
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;
    use base::error::Code;

    /// The expected values are from the fields of `session_bundle_config.proto`.
    #[test]
    fn every_field_is_taken() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        let text = "max_batch_size { value: 8 } batch_timeout_micros { value: 5 } \
                    max_enqueued_batches { value: 7 } num_batch_threads { value: 3 } \
                    thread_pool_name { value: 'pool' } allowed_batch_sizes: 2 \
                    allowed_batch_sizes: 8 pad_variable_length_inputs: true \
                    enable_large_batch_splitting { value: true } \
                    max_execution_batch_size { value: 4 }";
        file.write_all(text.as_bytes()).unwrap();
        let expected = BatchingOptions {
            max_batch_size: 8,
            batch_timeout_micros: 5,
            max_enqueued_batches: 7,
            num_batch_threads: 3,
            thread_pool_name: "pool".to_owned(),
            allowed_batch_sizes: vec![2, 8],
            pad_variable_length_inputs: true,
            enable_large_batch_splitting: true,
            max_execution_batch_size: Some(4),
            adaptive: false,
        };
        let flags = Flags {
            enable_batching: true,
            batching_parameters_file: file.path().to_str().unwrap().to_owned(),
            ..Flags::default()
        };
        assert_eq!(batching_options(&flags).unwrap(), Some(expected));
    }

    #[test]
    fn pool_name_depends_on_there_being_a_file() {
        let name = |options: Option<BatchingOptions>| options.unwrap().thread_pool_name;
        let mut flags = Flags {
            enable_batching: true,
            ..Flags::default()
        };
        let without_file = batching_options(&flags).unwrap();
        assert_eq!(name(without_file), "model_server_batch_threads");
        let file = tempfile::NamedTempFile::new().unwrap();
        flags.batching_parameters_file = file.path().to_str().unwrap().to_owned();
        assert_eq!(name(batching_options(&flags).unwrap()), "batch_threads");
        flags.enable_batching = false;
        assert_eq!(batching_options(&flags).unwrap(), None);
    }

    /// `GetPerModelBatchingParams` of `bundle_factory_util_test.cc`.
    #[test]
    fn version_has_parameters_of_its_own_or_none() {
        let directory = tempfile::tempdir().unwrap();
        let read = || {
            version_batching_options(directory.path(), |name, _| {
                let contents = std::fs::read(directory.path().join(name));
                Ok(contents.ok().map(Bytes::from))
            })
        };
        assert_eq!(read().unwrap(), None);
        let file = directory.path().join("batching_params.pbtxt");
        std::fs::write(&file, "max_batch_size { value: 10 }").unwrap();
        let options = read().unwrap().unwrap();
        assert_eq!(options.max_batch_size, 10);
        assert_eq!(options.max_enqueued_batches, 10);

        std::fs::write(&file, "max_batch_size: 10").unwrap();
        let error = read().unwrap_err();
        let text = format!("Invalid protobuf file: '{}'", file.display());
        assert_eq!(
            (error.code(), error.to_string()),
            (Code::InvalidArgument, text)
        );
    }
}
