//! Inlines functions where they are called, so that the caller's arguments are known in each.
//!
//! Not here: the limit on the expanded size of functions (`expansion`).

use std::collections::{HashMap, HashSet};

use crate::known::{FunctionKey, call_key, key_of};
use crate::visit::Names;
use crate::{OnnxModel, node, traverse};
use proto::onnx::{AttributeProto, FunctionProto, GraphProto, NodeProto};

/// The maximum depth of calls to inline.
const MAX_DEPTH: usize = 64;
/// The maximum number of nodes to write.
const MAX_NODES: usize = 200_000;

impl OnnxModel {
    /// Inlines functions that use the same versions of operators; calls of other functions stay.
    pub(super) fn write_functions_out(&mut self) {
        let imports = &self.proto.opset_import;
        let own: HashSet<&str> = self.proto.functions.iter().map(|it| it.domain()).collect();
        let is_same = |function: &&FunctionProto| {
            let mut needed = function.opset_import.iter();
            needed.all(|it| {
                let same = |import: &&_| **import == *it;
                own.contains(it.domain()) || imports.iter().any(|import| same(&import))
            })
        };
        let functions = self.proto.functions.iter().filter(is_same);
        let functions: HashMap<FunctionKey, FunctionProto> =
            functions.map(|it| (key_of(it), it.clone())).collect();
        if functions.is_empty() {
            return;
        }
        let mut writer = Writer {
            functions,
            names: self.names(),
            written: 0,
        };
        writer.nodes(&mut self.graph_mut().node, 0);
    }
}

struct Writer {
    functions: HashMap<FunctionKey, FunctionProto>,
    names: Names,
    written: usize,
}

impl Writer {
    fn nodes(&mut self, nodes: &mut Vec<NodeProto>, depth: usize) {
        for mut node in std::mem::take(nodes) {
            for graph in traverse::subgraphs_mut(&mut node) {
                self.nodes(&mut graph.node, depth);
            }
            match self.body(&node, depth) {
                Some(body) => nodes.extend(body),
                None => nodes.push(node),
            }
        }
    }

    /// The nodes of the function that a node calls.
    fn body(&mut self, call: &NodeProto, depth: usize) -> Option<Vec<NodeProto>> {
        let function = self.functions.get(&call_key(call))?.clone();
        let given = call.input.iter().filter(|it| !it.is_empty()).count();
        let written = self.written + function.node.len();
        // An argument that the caller leaves out has no name to use in the body.
        if given != function.input.len() || depth >= MAX_DEPTH || written > MAX_NODES {
            return None;
        }
        self.written = written;
        let mut renamed = Renamed {
            names: &mut self.names,
            prefix: call.output.first().cloned().unwrap_or_default(),
            new: HashMap::new(),
        };
        let mut body = Vec::new();
        for (inner, outer) in function.input.iter().zip(&call.input) {
            let inner = renamed.name(inner);
            body.push(node("Identity", &[outer], &inner));
        }
        for inner in &function.node {
            let mut inner = inner.clone();
            settle_attributes(&mut inner, call, &function);
            renamed.node(&mut inner);
            body.push(inner);
        }
        for (inner, outer) in function.output.iter().zip(&call.output) {
            if !outer.is_empty() {
                let inner = renamed.name(inner);
                body.push(node("Identity", &[&inner], outer));
            }
        }
        self.nodes(&mut body, depth + 1);
        Some(body)
    }
}

/// Replaces references to the caller's attributes with their values.
fn settle_attributes(inner: &mut NodeProto, call: &NodeProto, function: &FunctionProto) {
    let settled = |attribute: AttributeProto| {
        let wanted = attribute.ref_attr_name();
        if wanted.is_empty() {
            return Some(attribute);
        }
        let mut defaults = function.attribute_proto.iter();
        let value = traverse::attribute(call, wanted);
        let value = value.or_else(|| defaults.find(|it| it.name() == wanted))?;
        Some(AttributeProto {
            name: attribute.name.clone(),
            ..value.clone()
        })
    };
    let attributes = std::mem::take(&mut inner.attribute);
    inner.attribute = attributes.into_iter().filter_map(settled).collect();
    for graph in traverse::subgraphs_mut(inner) {
        for nested in &mut graph.node {
            settle_attributes(nested, call, function);
        }
    }
}

/// New names for all names in a body, one for one, so that names that hide others still do.
struct Renamed<'a> {
    names: &'a mut Names,
    prefix: String,
    new: HashMap<String, String>,
}

impl Renamed<'_> {
    fn name(&mut self, name: &str) -> String {
        if name.is_empty() {
            return String::new();
        }
        if let Some(new) = self.new.get(name) {
            return new.clone();
        }
        let new = self.names.take(&format!("{}/{name}", self.prefix));
        self.new.insert(name.to_owned(), new.clone());
        new
    }

    fn node(&mut self, node: &mut NodeProto) {
        node.name = None;
        for name in node.input.iter_mut().chain(&mut node.output) {
            *name = self.name(name);
        }
        for graph in traverse::subgraphs_mut(node) {
            self.graph(graph);
        }
    }

    fn graph(&mut self, graph: &mut GraphProto) {
        let values = graph.input.iter_mut().chain(&mut graph.output);
        for value in values.chain(&mut graph.value_info) {
            value.name = Some(self.name(value.name()));
        }
        let sparse = graph.sparse_initializer.iter_mut();
        let sparse = sparse.filter_map(|it| it.values.as_mut());
        for tensor in graph.initializer.iter_mut().chain(sparse) {
            tensor.name = Some(self.name(tensor.name()));
        }
        for node in &mut graph.node {
            self.node(node);
        }
    }
}
