//! The APIs of the server: access control (`access`), TensorFlow Serving's gRPC and REST (`tfs`), the pages
//! for operators (`admin`).
//!
//! A port enters each call at the one door (`access`); behind it a handler decodes (`wire`), calls
//! (`serving::inference`) and encodes. Not here: sockets (`net`), the rules for requests
//! (`serving::inference`).

pub mod access;
pub mod admin;
#[cfg(test)]
mod door_tests;
mod http_reply;
pub mod tfs;
