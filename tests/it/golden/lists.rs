//! Recorded exchanges that are not checked, each with the reason.

/// The id of an exchange or the name of a group, and the reason.
pub(crate) type Listed = (&'static str, &'static str);

/// Answers that this server does not give yet, or gives differently on purpose. They are played and
/// counted. An entry that no longer fails (for a group: none of its exchanges) fails the test.
pub(crate) const NOT_YET: &[Listed] = &[];

/// Not checked with the models in the repository, which replace some of the recordings' own.
pub(crate) const LEFT_OUT: &[Listed] = &[
    ("rest/013_metadata", TENSOR_NAMES),
    ("rest/014_metadata_version", TENSOR_NAMES),
    ("rest/022_metadata_tf2", TENSOR_NAMES),
    ("grpc/114_md", TENSOR_NAMES),
    ("grpc/117_md_twofields", TENSOR_NAMES),
    ("extra/grpc_metadata_metadata_half_plus_three", TENSOR_NAMES),
    ("extra/grpc_metadata_metadata_tf2", TENSOR_NAMES),
];
const TENSOR_NAMES: &str = "the answer has the names of tensors inside TensorFlow's model";
