//! Starting servers and calling them, so that a test is arrange, act, assert.

pub(crate) mod big_model;
pub(crate) mod grpc;
pub(crate) mod http;
pub(crate) mod json;
pub(crate) mod material;
pub(crate) mod model;
pub(crate) mod predict;
pub(crate) mod process;
pub(crate) mod proto;
pub(crate) mod server;
pub(crate) mod tensor;
