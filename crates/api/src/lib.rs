//! The APIs of the server: access control (`access`), TensorFlow Serving's gRPC and REST (`tfs`), the pages
//! for operators (`admin`).
//!
//! A handler decodes (`wire`), calls (`serving::inference`) and encodes. Not here: sockets (`net`), the
//! rules for requests (`serving::inference`).

pub mod access;
pub mod admin;
pub mod tfs;
