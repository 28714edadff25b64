//! The optional edits of a graph: an edit that a backend does not accept can be left out.
//!
//! Not here: making them (`rewrite`), checks in front of kernels, which are never left out (`guard`),
//! deciding which edit to leave out (`mapper::version_dir`).

use std::collections::BTreeSet;
use std::fmt;

/// An edit of a graph that can be left out. Those that protect the process are left out only for a backend
/// that does not need them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Edit {
    /// `Erfc` in terms of `Erf`.
    Erfc,
    /// Comparisons of casts of strings as comparisons of strings.
    StringComparisons,
    /// Transposes instead of reshapes that stand for them.
    Transposes,
    /// Constants instead of computed shapes.
    ConstantShapes,
    /// One operator for a product and a sum for each channel.
    BatchNorms,
    /// Without the nodes that no output needs. Dropping them can change the order in which a backend looks at
    /// the rest.
    UnneededNodes,
    /// Safe divisions of integers that depend on the known type. Without this edit, the divisions that work
    /// for all types are used.
    TypedDivisions,
    /// Safe divisions of operands that might be integers or not.
    UntypedDivisions,
    /// Safe divisions of integers.
    Divisions,
}

impl Edit {
    /// Whether a request might end the process if this edit is left out.
    pub fn protects(self) -> bool {
        matches!(self, Self::UntypedDivisions | Self::Divisions)
    }
}

impl fmt::Display for Edit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Erfc => "Erfc in terms of Erf",
            Self::StringComparisons => "string comparisons without casts",
            Self::Transposes => "transposes for reshapes",
            Self::ConstantShapes => "constants for computed shapes",
            Self::BatchNorms => "BatchNormalization for Mul and Add",
            Self::UnneededNodes => "nodes that no output needs are dropped",
            Self::TypedDivisions => "safe integer divisions by type",
            Self::UntypedDivisions => "safe divisions of unknown types",
            Self::Divisions => "safe integer divisions",
        })
    }
}

/// The edits that were made to a model, and those that are left out.
#[derive(Clone, Debug, Default)]
pub(super) struct Edits {
    pub(super) left_out: BTreeSet<Edit>,
    pub(super) made: BTreeSet<Edit>,
}

impl Edits {
    pub(super) fn wants(&self, edit: Edit) -> bool {
        !self.left_out.contains(&edit)
    }

    /// Records an edit if it changed something.
    pub(super) fn note(&mut self, edit: Edit, is_changed: bool) {
        if is_changed {
            self.made.insert(edit);
        }
    }
}
