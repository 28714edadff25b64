//! Entries of a checkpoint's index, and the bytes that they name.

pub use saved_model_import::check_checkpoint as check;
