//! Facts about a model's tensors that hold in any run: element types, and ranks if they are certain.
//!
//! `facts` has the facts about one tensor, `rules` the facts that follow for the outputs of operators,
//! `scopes` the names visible at a place in a model, and `functions` the results of calls to the model's own
//! functions.
//!
//! Not here: the use of these facts (`integer_division`, `guard`), shapes (`reshape`).

mod facts;
mod functions;
mod rules;
mod scopes;
#[cfg(test)]
mod tests;

pub(super) use self::facts::{Elem, Facts, INT32, INT64, Origin, STRING};
pub(super) use self::functions::{FunctionKey, Functions, call_key, key_of, may_be_operator};
pub(super) use self::scopes::Scopes;
