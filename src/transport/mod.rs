//! Sockets: HTTP/1 and HTTP/2, gRPC and REST, deadlines and limits.
//!
//! Nothing here knows what is inside a model, and no rule about requests lives here: bytes go
//! through `wire`, calls to `inference`.

mod blocking;
pub mod grpc;
mod limit;
mod observe;
pub mod observed;
mod prompt;
pub mod rest;
pub mod serve;
mod unix_authority;
