//! The forms of requests and responses on the wire, and the typed values behind them.
//!
//! Pure functions: no IO, no async, no models. Sockets and HTTP are in `transport`, the meaning of
//! a request is in `inference`.

pub mod json;
