//! Sockets: HTTP/1 and HTTP/2, gRPC and REST, deadlines and limits.
//!
//! Nothing here knows what is inside a model, and no rule about requests lives here: bytes go
//! through `wire`, calls to `inference`.

pub mod activity;
pub mod admin;
mod admit;
pub mod auth;
mod blocking;
mod busy_poll;
pub mod connection;
mod early_answer;
mod frames;
mod gate;
pub mod grpc;
mod head;
pub mod health;
mod isolate;
pub mod limit;
mod linger;
mod lone_stream;
mod observe;
pub mod observed;
pub mod pages;
mod peer;
pub mod places;
mod prompt;
mod promptness;
pub mod receive;
mod request_line;
pub mod rest;
pub mod serve;
mod shares;
mod stalled;
pub mod tls;
mod turns;
mod unix_authority;
mod waiting;
