//! Element types from the schemas of operators that ONNX Runtime adds.
//!
//! Not here: the rules for types that attributes or versions change (`types`).

use std::collections::HashMap;
use std::sync::LazyLock;

use super::Rule;
use crate::known::facts::Elem;
use proto::onnx::tensor_proto::DataType as OnnxType;

/// The types in the schemas; the file says how to read it.
pub(in crate::known) const TABLE: &str = include_str!("operator_types.txt");

/// Where the type of an output comes from.
enum Source {
    /// From one of these inputs; all of them have one type.
    Inputs(Vec<usize>),
    Is(Elem),
}

static SOURCES: LazyLock<HashMap<(&str, &str, usize), Source>> = LazyLock::new(|| {
    let lines = TABLE.lines().filter(|it| it.starts_with("com.microsoft"));
    lines.filter_map(source).collect()
});

fn source(line: &'static str) -> Option<((&'static str, &'static str, usize), Source)> {
    let (place, rule) = line.split_once(": ")?;
    let mut place = place.split(' ');
    let (domain, op_type, _, index) = (place.next()?, place.next()?, place.next()?, place.next()?);
    let (kind, types) = rule.split_once(' ')?;
    let source = match kind {
        "open" => return None,
        "is" => Source::Is(elem(types)),
        inputs => Source::Inputs(inputs.split(',').flat_map(str::parse).collect()),
    };
    Some(((domain, op_type, index.parse().ok()?), source))
}

/// An element type by the name that schemas have for it.
pub(in crate::known) fn elem(name: &str) -> Elem {
    let found = OnnxType::from_str_name(&name.to_uppercase());
    found.map_or(Elem::Other, |it| Elem::Is(it as i32))
}

impl Rule<'_> {
    /// The type that follows from the schema.
    pub(super) fn schema_elem(&self, index: usize) -> Elem {
        match SOURCES.get(&(self.node.domain(), self.node.op_type(), index)) {
            Some(Source::Inputs(inputs)) => {
                let mut elems = inputs.iter().map(|input| self.input(*input).elem);
                let known = elems.find(|it| *it != Elem::Unknown);
                known.unwrap_or_default()
            }
            Some(Source::Is(elem)) => *elem,
            None => Elem::Unknown,
        }
    }
}
