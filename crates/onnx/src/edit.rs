//! The edits that a graph can go without, so that one which a backend does not take can be left out.
//!
//! Not here: making them (`rewrite`), checks in front of kernels, which are never left out (`guard`),
//! deciding which edit to leave out (`mapper::version_dir`).

use std::collections::BTreeSet;
use std::fmt;

/// An edit of a graph that can be left out: those that protect a process only for a backend that does not
/// need them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Edit {
    /// `Erfc` in terms of `Erf`.
    Erfc,
    /// Comparisons of casts of strings as comparisons of strings.
    StringComparisons,
    /// Transposes in the place of reshapes that stand for them.
    Transposes,
    /// Constants in the place of computed shapes.
    ConstantShapes,
    /// One operator for a product and a sum for each channel.
    BatchNorms,
    /// Without the nodes that no output needs. The order in which a backend looks at the rest may change
    /// with them.
    UnneededNodes,
    /// Safe divisions of integers that use what is known of the type. Without it, they are those for
    /// all types.
    TypedDivisions,
    /// Safe divisions where it is not known whether they are of integers.
    UntypedDivisions,
    /// Safe divisions of integers.
    Divisions,
}

impl Edit {
    /// Whether a request may end the process where this is left out.
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

/// Which edits were made of a model, and which are left out.
#[derive(Clone, Debug, Default)]
pub(super) struct Edits {
    pub(super) left_out: BTreeSet<Edit>,
    pub(super) made: BTreeSet<Edit>,
}

impl Edits {
    pub(super) fn wants(&self, edit: Edit) -> bool {
        !self.left_out.contains(&edit)
    }

    /// Takes note of an edit that changed something.
    pub(super) fn note(&mut self, edit: Edit, is_changed: bool) {
        if is_changed {
            self.made.insert(edit);
        }
    }
}
