//! Sockets: HTTP/1 and HTTP/2, gRPC and REST, deadlines and limits.
//!
//! Nothing here knows what is inside a model, and no rule about requests lives here: bytes go
//! through `wire`, calls to `inference`.

pub mod auth;
mod blocking;
pub mod grpc;
mod limit;
mod observe;
mod prompt;
pub mod rest;
pub mod serve;
pub mod tls;
mod unix_authority;
