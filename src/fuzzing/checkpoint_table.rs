//! `variables.index`: a table of LevelDB's format.

pub use saved_model_import::check_table as check;
