//! The REST port.
