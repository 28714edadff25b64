//! Wire formats: bytes to typed requests, typed responses to bytes. Pure functions.
//!
//! One module for each protocol. Not here: sockets and status numbers (`api`), what a request means
//! (`serving::inference`), formats below any protocol (`codec`).

pub mod tfs;
