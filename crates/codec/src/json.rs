//! The lexical side of JSON: tokens, numbers, strings, and writing them.
//!
//! Not here: the documents of TensorFlow Serving's REST API (`wire::tfs::json`).

pub mod base64;
pub mod cursor;
pub mod debug_text;
pub mod decimal;
pub mod depth;
pub mod float_text;
pub mod nearest;
pub mod number;
pub mod string;
pub mod syntax;
pub mod syntax_error;
pub mod text;
pub mod writer;
