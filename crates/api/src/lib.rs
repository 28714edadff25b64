//! The APIs of the server: who may call what (`access`), TensorFlow Serving's gRPC and REST (`tfs`), the pages for
//! operators (`admin`).
//!
//! A handler decodes (`wire`), calls (`serving::inference`) and encodes. Not here: sockets (`net`), rules about
//! requests (`serving::inference`).

pub mod access;
pub mod admin;
pub mod tfs;
