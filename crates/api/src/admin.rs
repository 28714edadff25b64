//! The pages for operators: health, readiness, metrics and the list of models, and their own port.

pub mod health;
pub mod model_list;
pub mod pages;
pub mod server;
