//! Refuses models whose functions expand to far more nodes than the file has.
//!
//! A runtime writes out every call of a function. If each of thirty functions calls the next one twice, a
//! file of a few kilobytes expands to a billion nodes, and the load runs until memory is exhausted. So the
//! calls are followed here, before anything else looks at the model, and only up to the limit.
//!
//! Not here: limits on the size and depth of the file itself (`decode_limits`).

use std::collections::HashMap;

use super::known::{FunctionKey, call_key, key_of};
use super::{is_onnx_domain, traverse};
use base::error::{Result, ServingError};
use proto::onnx::{AttributeProto, FunctionProto, ModelProto, NodeProto};

/// The maximum number of nodes that all calls together expand to. ONNX Runtime needs a minute or two for that
/// many.
const MAX_NODES: usize = 1 << 16;
/// The maximum depth of nested calls and graphs once the calls are written out. ONNX Runtime accepts 100.
const MAX_DEPTH: usize = 200;

/// Checks the expanded size of a model's functions; `origin` names the model in errors.
///
/// # Errors
///
/// `INVALID_ARGUMENT` if the expansion is too large or never ends.
pub(super) fn check(origin: &str, model: &ModelProto) -> Result<()> {
    let Some(graph) = model.graph.as_ref().filter(|_| !model.functions.is_empty()) else {
        return Ok(());
    };
    let functions = model.functions.iter().map(|it| (plain(key_of(it)), it));
    let mut expansion = Expansion {
        functions: functions.collect(),
        left: MAX_NODES,
    };
    let refused = |reason: String| {
        let text = format!("{origin} is refused: the model's functions {reason}");
        ServingError::invalid_argument(text)
    };
    expansion
        .follow(&graph.node, GraphContext::default())
        .map_err(|error| match error {
            Excess::Nodes => refused(format!("expand to more than {MAX_NODES} nodes")),
            Excess::Depth => refused(format!("call each other deeper than {MAX_DEPTH} levels")),
        })
}

/// The limit that the expansion exceeds.
enum Excess {
    Nodes,
    Depth,
}

struct Expansion<'a> {
    functions: HashMap<FunctionKey, &'a FunctionProto>,
    /// The number of nodes that calls can still add.
    left: usize,
}

/// A call whose function body is written out.
#[derive(Clone, Copy)]
struct Call<'a> {
    node: &'a NodeProto,
    function: &'a FunctionProto,
    /// The call that contains this one.
    outer: Option<&'a Call<'a>>,
}

impl<'a> Call<'a> {
    /// The value of an attribute of this name in the call.
    fn attribute(&self, name: &str) -> Option<&'a AttributeProto> {
        let default = || self.function.attribute_proto.iter();
        let given = traverse::attribute(self.node, name);
        given.or_else(|| default().find(|it| it.name() == name))
    }
}

/// The surroundings of a graph.
#[derive(Clone, Copy, Default)]
struct GraphContext<'a> {
    /// The call whose attributes its nodes refer to.
    call: Option<&'a Call<'a>>,
    depth: usize,
    /// Whether it is written out because of a call.
    is_of_call: bool,
}

impl Expansion<'_> {
    /// Follows the nodes of one graph, or of a function's body.
    fn follow(&mut self, nodes: &[NodeProto], context: GraphContext<'_>) -> Result<(), Excess> {
        if context.depth > MAX_DEPTH {
            return Err(Excess::Depth);
        }
        for node in nodes {
            if context.is_of_call {
                self.left = self.left.checked_sub(1).ok_or(Excess::Nodes)?;
            }
            for attribute in &node.attribute {
                self.follow_attribute(attribute, context)?;
            }
            if let Some(&function) = self.functions.get(&plain(call_key(node))) {
                let call = Call {
                    node,
                    function,
                    outer: context.call,
                };
                let body = GraphContext {
                    call: Some(&call),
                    depth: context.depth + 1,
                    is_of_call: true,
                };
                self.follow(&function.node, body)?;
            }
        }
        Ok(())
    }

    /// Follows the graphs of an attribute, which can be a reference to one of the call's.
    fn follow_attribute(
        &mut self,
        attribute: &AttributeProto,
        mut context: GraphContext<'_>,
    ) -> Result<(), Excess> {
        let name = attribute.ref_attr_name();
        if let Some(call) = context.call.filter(|_| !name.is_empty()) {
            context.call = call.outer;
            return match call.attribute(name) {
                Some(given) => self.follow_attribute(given, context),
                None => Ok(()),
            };
        }
        context.depth += 1;
        let mut graphs = attribute.g.iter().chain(&attribute.graphs);
        graphs.try_for_each(|graph| self.follow(&graph.node, context))
    }
}

/// ONNX's own domain has two spellings.
fn plain((domain, name, overload): FunctionKey) -> FunctionKey {
    let domain = if is_onnx_domain(&domain) {
        String::new()
    } else {
        domain
    };
    (domain, name, overload)
}

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::*;
    use crate::{OnnxModel, node};
    use proto::onnx::GraphProto;

    fn call(function: usize) -> NodeProto {
        let mut call = node(&format!("F{function}"), &["a"], "b");
        call.domain = Some("d".to_owned());
        call
    }

    fn function(number: usize, node: Vec<NodeProto>) -> FunctionProto {
        FunctionProto {
            name: Some(format!("F{number}")),
            domain: Some("d".to_owned()),
            node,
            ..FunctionProto::default()
        }
    }

    fn with_graph(mut node: NodeProto, name: &str, nodes: Vec<NodeProto>) -> NodeProto {
        node.attribute.push(AttributeProto {
            name: Some(name.to_owned()),
            g: Some(GraphProto {
                node: nodes,
                ..GraphProto::default()
            }),
            ..AttributeProto::default()
        });
        node
    }

    fn with_reference(mut node: NodeProto, name: &str, to: &str) -> NodeProto {
        node.attribute.push(AttributeProto {
            name: Some(name.to_owned()),
            ref_attr_name: Some(to.to_owned()),
            ..AttributeProto::default()
        });
        node
    }

    /// Checks that a model of these nodes and functions is accepted, or refused with an error that contains
    /// `refused`.
    #[track_caller]
    fn check_parse(nodes: Vec<NodeProto>, functions: Vec<FunctionProto>, refused: Option<&str>) {
        let model = ModelProto {
            graph: Some(GraphProto {
                node: nodes,
                ..GraphProto::default()
            }),
            functions,
            ..ModelProto::default()
        };
        let parsed = OnnxModel::parse("m.onnx", &model.encode_to_vec());
        let error = parsed.err().map(|error| error.to_string());
        match refused {
            Some(text) => assert!(
                error.as_ref().is_some_and(|it| it.contains(text)),
                "{error:?}"
            ),
            None => assert_eq!(error, None),
        }
    }

    const TOO_MANY: Option<&str> =
        Some("m.onnx is refused: the model's functions expand to more than 65536 nodes");
    const TOO_DEEP: Option<&str> = Some("the model's functions call each other deeper than 200");

    /// Each function has this body; the last is a `Relu`.
    fn levels(count: usize, body: impl Fn(usize) -> Vec<NodeProto>) -> Vec<FunctionProto> {
        let mut functions: Vec<_> = (0..count).map(|it| function(it, body(it + 1))).collect();
        functions.push(function(count, vec![node("Relu", &["a"], "b")]));
        functions
    }

    #[test]
    fn functions_that_call_the_next_twice_are_refused() {
        let twice = |next| vec![call(next), call(next)];
        check_parse(vec![call(0)], levels(30, twice), TOO_MANY);
        check_parse(vec![call(0)], levels(14, twice), None);
        // Calls next to each other add up to as many.
        check_parse(vec![call(0); 4], levels(14, twice), TOO_MANY);
        // Functions that are not called add nothing.
        check_parse(vec![node("Relu", &["x"], "y")], levels(30, twice), None);
    }

    #[test]
    fn calls_in_nested_graphs_count() {
        let branches = |next| {
            let both = with_graph(node("If", &["c"], "y"), "then_branch", vec![call(next)]);
            vec![with_graph(both, "else_branch", vec![call(next)])]
        };
        check_parse(branches(0), levels(30, branches), TOO_MANY);
        check_parse(branches(0), levels(5, branches), None);
    }

    /// A graph passed to a call counts wherever the function uses it.
    #[test]
    fn graphs_given_to_calls_count() {
        let twice = |name: &str| {
            let both = with_reference(node("If", &["c"], "y"), "then_branch", name);
            with_reference(both, "else_branch", name)
        };
        let pass_on = |next| vec![with_graph(call(next), "body", vec![twice("body")])];
        let mut functions = levels(30, pass_on);
        functions[30].node = vec![twice("body")];
        let first = |nodes: usize| {
            let nodes = vec![node("Relu", &["x"], "y"); nodes];
            with_graph(call(0), "body", nodes)
        };
        check_parse(vec![first(1)], functions, TOO_MANY);
        // One function that uses a large graph repeatedly.
        let uses = |count: usize| vec![function(0, vec![twice("body"); count])];
        check_parse(vec![first(1000)], uses(10), None);
        check_parse(vec![first(1000)], uses(40), TOO_MANY);
        let default = |mut function: FunctionProto| {
            let given = first(1000).attribute;
            function.attribute_proto = given;
            vec![function]
        };
        check_parse(vec![call(0)], default(uses(40).remove(0)), TOO_MANY);
        // A name that is passed on unchanged.
        let passed_on = vec![
            function(0, vec![with_reference(call(1), "body", "body"); 40]),
            function(1, vec![twice("body")]),
        ];
        check_parse(vec![first(1000)], passed_on, TOO_MANY);
    }

    #[test]
    fn functions_that_call_themselves_are_refused() {
        check_parse(vec![call(0)], vec![function(0, vec![call(0)])], TOO_DEEP);
        let around = vec![function(0, vec![call(1)]), function(1, vec![call(0)])];
        check_parse(vec![call(1)], around, TOO_DEEP);
        let one = |next| vec![call(next)];
        check_parse(vec![call(0)], levels(10_000, one), TOO_DEEP);
        check_parse(vec![call(0)], levels(90, one), None);
    }

    #[test]
    fn nodes_of_the_file_itself_have_no_bound_here() {
        let many = vec![node("Relu", &["x"], "y"); MAX_NODES + 1];
        let functions = vec![function(0, vec![node("Relu", &["a"], "b")])];
        check_parse([many, vec![call(0)]].concat(), functions, None);
    }

    /// Graphs within graphs, from bytes: more levels than any library would write.
    #[test]
    fn deeply_nested_graphs_are_refused() {
        let delimited = |field: u8, inner: Vec<u8>| {
            let mut bytes = vec![field << 3 | 2];
            prost::encoding::encode_varint(inner.len() as u64, &mut bytes);
            bytes.extend(inner);
            bytes
        };
        let mut graph = Vec::new();
        for _ in 0..10_000 {
            // A graph with a node with an attribute with a graph.
            graph = delimited(1, delimited(5, delimited(6, graph)));
        }
        let error = OnnxModel::parse("m.onnx", &delimited(7, graph)).err();
        let text = error.expect("it was taken").to_string();
        assert!(text.contains("recursion limit"), "{text}");
    }
}
