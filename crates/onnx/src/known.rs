//! What a model says about its tensors before any run: element types, and ranks where they are sure.
//!
//! `facts` is what can be known of a tensor, `rules` what operators make of it, `scopes` the names that a
//! place in a model sees, `functions` what calls of the model's own functions return.
//!
//! Not here: what is made of it (`divide`, `guard`), shapes (`reshape`).

mod facts;
mod functions;
mod rules;
mod scopes;
#[cfg(test)]
mod tests;

pub(super) use self::facts::{Elem, Facts, INT32, INT64, Origin, STRING};
pub(super) use self::functions::{FunctionKey, Functions, call_key, key_of};
pub(super) use self::scopes::Scopes;
