//! The two sides of a signature, and the changes that maps make to aliases.
//!
//! Not here: making the changes (`renaming`), requests under earlier aliases (`earlier_aliases`).

use std::collections::BTreeMap;
use std::fmt;

/// One of a signature's two sides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Side {
    /// The tensors that clients send.
    Input,
    /// The tensors that clients get.
    Output,
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Input => "input",
            Self::Output => "output",
        })
    }
}

/// A change that a signature map made to an alias.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AliasChange {
    /// The side that the alias is on.
    pub side: Side,
    /// The alias before.
    pub old: String,
    /// The alias that its tensor has now; `None`: the alias was removed without a replacement.
    pub new: Option<String>,
    /// Whether clients can still use the old one.
    pub kept: bool,
}

impl fmt::Display for AliasChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { side, old, .. } = self;
        match &self.new {
            None => write!(f, "{side}s['{old}'] is not served"),
            Some(new) if self.kept => {
                write!(f, "{side}s['{old}'] is served as {side}s['{new}'], too")
            }
            Some(new) => write!(f, "{side}s['{old}'] is served as {side}s['{new}']"),
        }
    }
}

/// The aliases below a map, each with its present alias; `None` if it was removed.
#[derive(Clone, Debug, Default)]
pub struct EarlierAliases {
    /// Of inputs.
    pub inputs: Aliases,
    /// Of outputs.
    pub outputs: Aliases,
}

/// Earlier aliases, mapped to the present ones; `None`: removed.
#[derive(Clone, Debug, Default)]
pub struct Aliases(pub BTreeMap<String, Option<String>>);

impl Aliases {
    pub(super) fn has(&self, aliases: &[String]) -> bool {
        aliases.iter().all(|alias| self.0.contains_key(alias))
    }
}
