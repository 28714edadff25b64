//! The nodes of a TensorFlow graph and of its functions, by name, and references to their outputs.
//!
//! Not here: the values of the outputs (`translation`).

use std::collections::HashMap;
use std::rc::Rc;

use proto::tensorflow::{AttrValue, FunctionDef, GraphDef, NodeDef, attr_value, op_def::ArgDef};

/// A graph with its library of functions.
pub(crate) struct Graph<'a> {
    pub(crate) main: Body<'a>,
    pub(crate) functions: HashMap<&'a str, Function<'a>>,
}

/// The nodes of the main graph or of a function.
pub(crate) struct Body<'a> {
    pub(crate) nodes: HashMap<&'a str, &'a NodeDef>,
}

/// A function of the library.
pub(crate) struct Function<'a> {
    pub(crate) definition: &'a FunctionDef,
    pub(crate) body: Body<'a>,
}

/// An output of a node, or an argument of a function.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct TensorRef<'a> {
    pub(crate) node: &'a str,
    /// The output's name in the operator's definition; empty if it is given by its number alone.
    pub(crate) output: &'a str,
    pub(crate) index: usize,
}

impl<'a> TensorRef<'a> {
    /// `node`, `node:0`, or `node:output:0` within functions. `None` for a control input (`^node`).
    pub(crate) fn parse(text: &'a str) -> Option<Self> {
        if text.starts_with('^') {
            return None;
        }
        let mut parts = text.split(':');
        let node = parts.next()?;
        let (output, index) = match (parts.next(), parts.next()) {
            (None, _) => ("", "0"),
            (Some(index), None) if index.bytes().all(|it| it.is_ascii_digit()) => ("", index),
            (Some(output), None) => (output, "0"),
            (Some(output), Some(index)) => (output, index),
        };
        let index = index.parse().ok()?;
        Some(Self {
            node,
            output,
            index,
        })
    }
}

impl<'a> Graph<'a> {
    pub(crate) fn new(graph: &'a GraphDef) -> Self {
        let functions = graph.library.iter().flat_map(|it| &it.function);
        let functions = functions.filter_map(|definition| {
            let name = definition.signature.as_ref()?.name.as_str();
            let body = Body::new(&definition.node_def);
            Some((name, Function { definition, body }))
        });
        Self {
            main: Body::new(&graph.node),
            functions: functions.collect(),
        }
    }
}

impl<'a> Body<'a> {
    fn new(nodes: &'a [NodeDef]) -> Self {
        Self {
            nodes: nodes
                .iter()
                .map(|node| (node.name.as_str(), node))
                .collect(),
        }
    }
}

impl<'a> Function<'a> {
    /// The arguments, in order.
    pub(crate) fn inputs(&self) -> &'a [ArgDef] {
        self.definition
            .signature
            .as_ref()
            .map_or(&[], |it| &it.input_arg)
    }

    /// The results in order, each with the reference that returns it.
    pub(crate) fn results(&self) -> Vec<Option<TensorRef<'a>>> {
        let outputs = self
            .definition
            .signature
            .iter()
            .flat_map(|it| &it.output_arg);
        let result = |output: &ArgDef| TensorRef::parse(self.definition.ret.get(&output.name)?);
        outputs.map(result).collect()
    }
}

/// An attribute of a node.
pub(crate) fn attribute<'a>(node: &'a NodeDef, name: &str) -> Option<&'a attr_value::Value> {
    node.attr
        .get(name)
        .and_then(|it: &AttrValue| it.value.as_ref())
}

/// The name of a variable that is unique in the model: TensorFlow finds variables by their shared names.
pub(crate) fn resource_name(node: &NodeDef) -> Rc<str> {
    match attribute(node, "shared_name") {
        Some(attr_value::Value::S(name)) if !name.is_empty() => {
            Rc::from(String::from_utf8_lossy(name).as_ref())
        }
        _ => Rc::from(node.name.as_str()),
    }
}

/// The names of the functions that an attribute of a node refers to.
pub(crate) fn function_names(node: &NodeDef) -> Vec<&str> {
    let mut names = vec![node.op.as_str()];
    for value in node.attr.values().filter_map(|it| it.value.as_ref()) {
        match value {
            attr_value::Value::Func(function) => names.push(&function.name),
            attr_value::Value::List(list) => {
                names.extend(list.func.iter().map(|it| it.name.as_str()));
            }
            _ => {}
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_of_graphs_and_functions_are_read() {
        let of = |text| TensorRef::parse(text).map(|it| (it.node, it.output, it.index));
        assert_eq!(of("a/b"), Some(("a/b", "", 0)));
        assert_eq!(of("a:2"), Some(("a", "", 2)));
        assert_eq!(of("a:values:1"), Some(("a", "values", 1)));
        assert_eq!(of("^a"), None);
        assert_eq!(of("a:values:x"), None);
    }
}
