//! The REST port's flags.

use std::time::Duration;

use net::receive::ReceiveOptions;

/// TensorFlow Serving's limit on a gunzipped body.
const MAX_DECOMPRESSED_BYTES: usize = 100 << 20;

/// The REST port's flags.
#[derive(Clone, Debug)]
pub struct RestOptions {
    /// `--rest_api_timeout_in_ms`: limits a run; `None` for no limit.
    pub timeout: Option<Duration>,
    /// `--rest_api_enable_cors_support`.
    pub cors: bool,
    /// `--rest_api_num_threads`, if it is given: the largest number of requests that run at the same time.
    pub max_calls: Option<usize>,
    /// `--enable_serialization_as_tensor_content`, for Predict with protobuf bodies.
    pub serialize_as_tensor_content: bool,
    /// `--enable_model_listing`: whether `GET /v1/models` lists the models.
    pub model_listing: bool,
    /// Answers of at least this size are gzipped for clients that accept gzip; `None` disables it.
    pub compression_min_bytes: Option<usize>,
    /// Limits on a request's body.
    pub receive: ReceiveOptions,
    /// `--rest_api_max_json_depth`: the maximum nesting depth of a body; `None` for unlimited.
    pub max_json_depth: Option<usize>,
}

impl Default for RestOptions {
    /// The flags' defaults.
    fn default() -> Self {
        Self {
            timeout: Some(Duration::from_secs(30)),
            cors: false,
            max_calls: None,
            serialize_as_tensor_content: false,
            model_listing: false,
            compression_min_bytes: None,
            receive: ReceiveOptions::new(MAX_DECOMPRESSED_BYTES),
            max_json_depth: None,
        }
    }
}
