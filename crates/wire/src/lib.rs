//! Wire formats: converts bytes to typed requests, and typed responses to bytes. Pure functions.
//!
//! One module for each protocol. Not here: sockets and status codes (`api`), the semantics of requests
//! (`serving::inference`), formats below any protocol (`codec`).

pub mod tfs;
