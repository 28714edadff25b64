//! Pools whose window always fits into their image because the model's input is large enough.
//!
//! With a check between the convolution and the pool, ONNX Runtime does not keep the image in blocks of
//! channels there. So the smallest image size is traced back to the input of the graph, through operators
//! whose attributes determine their output sizes, and the check stands in front of the first operator there.
//! If that is not possible, it stays in front of the pool.
//!
//! Not here: the check (`guard`), the pools that need it (`kernel_limits`).

use std::collections::{HashMap, HashSet};

use super::pooling_window::Window;
use super::{is_onnx_domain, is_op, traverse};
use proto::onnx::{AttributeProto, FunctionProto, GraphProto, NodeProto};

/// The maximum number of steps back from one pool.
const MAX_STEPS: usize = 1000;
/// Larger images are never required.
const MAX_SIZE: i64 = 1 << 20;

/// Operators of one image that leave its sizes as they are.
const KEEP_SIZES: &[&str] = &[
    "Abs",
    "BatchNormalization",
    "Cast",
    "Clip",
    "Elu",
    "HardSigmoid",
    "HardSwish",
    "Identity",
    "LRN",
    "LeakyRelu",
    "Neg",
    "Relu",
    "Selu",
    "Sigmoid",
    "Softplus",
    "Sqrt",
    "Tanh",
];

/// The smallest sizes of a tensor, one for each dimension.
pub(super) type Sizes = Vec<i64>;

/// Nodes are named by their first output.
#[derive(Debug, Default)]
pub(super) struct Proofs {
    /// Pools that need no check.
    pools: HashSet<String>,
    /// The sizes required of a node's first input instead.
    entries: HashMap<String, Sizes>,
}

impl Proofs {
    /// For the pools in the main graph of a model with these functions.
    pub(super) fn of(graph: &GraphProto, functions: &[FunctionProto]) -> Self {
        let producers = graph.node.iter().flat_map(|node| {
            let outputs = node.output.iter();
            outputs.map(move |output| (output.as_str(), node))
        });
        let constants = graph.initializer.iter().map(|it| it.name());
        let trace = Trace {
            producers: producers.collect(),
            constants: constants.collect(),
            inputs: graph.input.iter().map(|it| it.name()).collect(),
        };
        let elsewhere = names_elsewhere(graph, functions);
        let mut proofs = Self::default();
        for pool in graph.node.iter().filter(|it| is_pool(it)) {
            let Some(entry) = trace.entry_of(pool) else {
                continue;
            };
            let (Some(entry_name), Some(pool_name)) = (entry.0.output.first(), pool.output.first())
            else {
                continue;
            };
            let names = [entry_name, pool_name];
            if names.iter().any(|name| elsewhere.contains(name.as_str())) {
                continue;
            }
            let known = proofs.entries.entry(entry_name.clone());
            let sizes = known.or_insert_with(|| entry.1.clone());
            if sizes.len() != entry.1.len() {
                continue;
            }
            for (size, other) in sizes.iter_mut().zip(entry.1) {
                *size = (*size).max(other);
            }
            proofs.pools.insert(pool_name.clone());
        }
        proofs
    }

    /// Whether a pool needs no check.
    pub(super) fn holds_for(&self, pool: &NodeProto) -> bool {
        let name = pool.output.first();
        name.is_some_and(|name| self.pools.contains(name))
    }

    /// The smallest sizes that the first input of a node must have.
    pub(super) fn required_by(&self, node: &NodeProto) -> Option<&Sizes> {
        self.entries.get(node.output.first()?)
    }
}

fn is_pool(node: &NodeProto) -> bool {
    is_op(node, "MaxPool") || is_op(node, "AveragePool")
}

/// The outputs of nodes in nested graphs and functions: one can share a name with the main graph.
fn names_elsewhere<'a>(graph: &'a GraphProto, functions: &'a [FunctionProto]) -> HashSet<&'a str> {
    let mut names = HashSet::new();
    let mut add = |node: &'a NodeProto| names.extend(node.output.iter().map(String::as_str));
    for function in functions {
        traverse::for_each_node(&function.node, &mut add);
    }
    for nested in graph.node.iter().flat_map(traverse::subgraphs) {
        traverse::for_each_node(&nested.node, &mut add);
    }
    names
}

struct Trace<'a> {
    producers: HashMap<&'a str, &'a NodeProto>,
    constants: HashSet<&'a str>,
    inputs: HashSet<&'a str>,
}

impl<'a> Trace<'a> {
    /// The first node after an input of the graph on the way to a pool, and the sizes that it needs.
    fn entry_of(&self, pool: &NodeProto) -> Option<(&'a NodeProto, Sizes)> {
        let window = Window::of(pool)?;
        let mut sizes = vec![1; 2 + window.sizes.len()];
        for (size, needed) in sizes[window.first_axis..].iter_mut().zip(&window.sizes) {
            *size = *needed;
        }
        let mut name = pool.input.first()?.as_str();
        for _ in 0..MAX_STEPS {
            let node = *self.producers.get(name)?;
            if node.output.first().map(String::as_str) != Some(name) {
                return None;
            }
            sizes = self.before(node, &sizes)?;
            if sizes.iter().any(|size| *size > MAX_SIZE) {
                return None;
            }
            name = node.input.first()?;
            if self.inputs.contains(name) {
                let is_constant = self.constants.contains(name);
                return (!is_constant).then_some((node, sizes));
            }
        }
        None
    }

    /// The sizes that a node's first input needs so that its output has these sizes.
    fn before(&self, node: &NodeProto, sizes: &Sizes) -> Option<Sizes> {
        if !is_onnx_domain(node.domain()) {
            return None;
        }
        match node.op_type() {
            "Conv" | "MaxPool" | "AveragePool" => before_window(node, sizes),
            "Transpose" => {
                let perm = ints(node, "perm")?;
                let mut before = vec![0; sizes.len()];
                for (size, from) in sizes.iter().zip(perm) {
                    *before.get_mut(usize::try_from(*from).ok()?)? = *size;
                }
                let is_complete = perm.len() == sizes.len() && !before.contains(&0);
                is_complete.then_some(before)
            }
            op_type => KEEP_SIZES.contains(&op_type).then(|| sizes.clone()),
        }
    }
}

/// The same for a window that moves over the image: the inverse of the formula for its output size.
fn before_window(node: &NodeProto, sizes: &Sizes) -> Option<Sizes> {
    let kernel = ints(node, "kernel_shape")?;
    let (strides, pads) = (ints(node, "strides")?, ints(node, "pads")?);
    let dilations = ints(node, "dilations")?;
    let auto_pad = attribute(node, "auto_pad")?.map_or(&b""[..], AttributeProto::s);
    let rounds_up = attribute(node, "ceil_mode")?.is_some_and(|it| it.i() != 0);
    let is_plain = |values: &[i64], min: i64| values.iter().all(|it| (min..=MAX_SIZE).contains(it));
    if kernel.len() + 2 != sizes.len()
        || rounds_up
        || !is_plain(kernel, 1)
        || !is_plain(strides, 1)
        || !is_plain(dilations, 1)
        || !is_plain(pads, 0)
        || ![0, 2 * kernel.len()].contains(&pads.len())
    {
        return None;
    }
    let mut before = sizes.clone();
    for (axis, size) in before.iter_mut().skip(2).enumerate() {
        let at = |values: &[i64], index: usize, default| *values.get(index).unwrap_or(&default);
        let stride = at(strides, axis, 1);
        let window = (kernel[axis] - 1) * at(dilations, axis, 1) + 1;
        let moved = (*size - 1) * stride;
        let needed = match auto_pad {
            b"SAME_UPPER" | b"SAME_LOWER" => moved + 1,
            b"VALID" => moved + window,
            b"" | b"NOTSET" => {
                moved + window - at(pads, axis, 0) - at(pads, axis + kernel.len(), 0)
            }
            _ => return None,
        };
        *size = needed.max(1);
    }
    Some(before)
}

/// The integers of an attribute, empty if it is left out; `None` if the caller of a function gives them.
fn ints<'a>(node: &'a NodeProto, name: &str) -> Option<&'a [i64]> {
    Some(attribute(node, name)?.map_or(&[][..], |it| it.ints.as_slice()))
}

fn attribute<'a>(node: &'a NodeProto, name: &str) -> Option<Option<&'a AttributeProto>> {
    match traverse::attribute(node, name) {
        Some(attribute) if !attribute.ref_attr_name().is_empty() => None,
        found => Some(found),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io_transforms::ints_attribute;
    use crate::node;
    use proto::onnx::ValueInfoProto;

    fn windowed(op_type: &str, from: &str, to: &str, attributes: &[(&str, &[i64])]) -> NodeProto {
        let attributes = attributes.iter();
        NodeProto {
            attribute: attributes.map(|it| ints_attribute(it.0, it.1)).collect(),
            ..node(op_type, &[from, "w"], to)
        }
    }

    fn pool(from: &str) -> NodeProto {
        windowed("MaxPool", from, "y", &[("kernel_shape", &[3, 2])])
    }

    /// The sizes that the node that returns `entry` needs, if the pool at the end is proven.
    fn required(nodes: Vec<NodeProto>, entry: usize) -> Option<Sizes> {
        let graph = GraphProto {
            input: vec![ValueInfoProto {
                name: Some("x".to_owned()),
                ..ValueInfoProto::default()
            }],
            node: nodes,
            ..GraphProto::default()
        };
        let proofs = Proofs::of(&graph, &[]);
        let pool = graph.node.last().unwrap();
        assert_eq!(
            proofs.holds_for(pool),
            proofs.required_by(&graph.node[entry]).is_some()
        );
        proofs.required_by(&graph.node[entry]).cloned()
    }

    #[test]
    fn window_of_the_pool_is_followed_to_the_input() {
        let conv = [
            ("kernel_shape", &[5, 3][..]),
            ("strides", &[2, 1]),
            ("pads", &[1, 0, 1, 0]),
        ];
        let nodes = vec![
            node("Transpose", &["x"], "t"),
            windowed("Conv", "t", "c", &conv),
            node("Relu", &["c"], "r"),
            pool("r"),
        ];
        let mut images = nodes.clone();
        images[0]
            .attribute
            .push(ints_attribute("perm", &[0, 3, 1, 2]));
        // 3 rows of 5 at a distance of 2 cover 9, of which 2 are pads; 2 columns of 3 cover 4.
        assert_eq!(required(images, 0), Some(vec![1, 7, 4, 1]));
        assert_eq!(required(nodes, 0), None, "without an order of axes");
    }

    #[test]
    fn what_is_not_known_proves_nothing() {
        let conv = |attributes: &[(&str, &[i64])]| {
            required(vec![windowed("Conv", "x", "c", attributes), pool("c")], 0)
        };
        assert_eq!(conv(&[("kernel_shape", &[1, 1])]), Some(vec![1, 1, 3, 2]));
        assert_eq!(conv(&[]), None, "no kernel's size");
        assert_eq!(conv(&[("kernel_shape", &[1])]), None, "another rank");
        let negative: &[(&str, &[i64])] = &[("kernel_shape", &[1, 1]), ("pads", &[-1, 0, 0, 0])];
        assert_eq!(conv(negative), None);
        let resized = vec![node("Resize", &["x"], "c"), pool("c")];
        assert_eq!(required(resized, 0), None);
        assert_eq!(
            required(vec![pool("x")], 0),
            None,
            "the pool itself is first"
        );
    }

    #[test]
    fn names_of_functions_are_left_alone() {
        let conv = windowed("Conv", "x", "c", &[("kernel_shape", &[1, 1])]);
        let graph = GraphProto {
            input: vec![ValueInfoProto {
                name: Some("x".to_owned()),
                ..ValueInfoProto::default()
            }],
            node: vec![conv, pool("c")],
            ..GraphProto::default()
        };
        let function = FunctionProto {
            node: vec![pool("a")],
            ..FunctionProto::default()
        };
        let proofs = Proofs::of(&graph, &[function]);
        assert!(!proofs.holds_for(&graph.node[1]));
    }
}
