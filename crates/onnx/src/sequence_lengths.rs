//! The number of tensors in a sequence, if the graph determines it independently of the request.
//!
//! Not here: the use of these lengths (`sequences`).

use std::cell::Cell;
use std::collections::HashMap;

use super::constant::to_tensor;
use super::interface::value_info;
use super::known::{call_key, key_of};
use super::{is_onnx_domain, is_op, traverse};
use proto::onnx::{FunctionProto, GraphProto, NodeProto, TensorProto, ValueInfoProto};

/// The maximum number of steps of a search through graphs that refer to each other.
const MAX_STEPS: usize = 10_000;
/// The maximum depth to follow nested graphs, function calls and their arguments.
const MAX_DEPTH: usize = 100;

/// The number of tensors in a sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Length {
    pub(super) tensors: usize,
    /// It follows from a declared size, which a request might not match.
    pub(super) is_declared: bool,
}

/// Finds lengths in one model.
pub(super) struct Lengths<'a> {
    functions: &'a [FunctionProto],
    steps: Cell<usize>,
    depth: Cell<usize>,
}

/// The names that a graph or a function sees.
struct Scope<'a> {
    /// The node that makes a tensor, and which of its outputs that is.
    makers: HashMap<&'a str, (&'a NodeProto, usize)>,
    initializers: HashMap<&'a str, &'a TensorProto>,
    declared: HashMap<&'a str, &'a ValueInfoProto>,
    /// The arguments from the caller of a function.
    given: HashMap<&'a str, Option<Length>>,
    around: Option<&'a Scope<'a>>,
}

impl<'a> Lengths<'a> {
    pub(super) fn new(functions: &'a [FunctionProto]) -> Self {
        Self {
            functions,
            steps: Cell::new(0),
            depth: Cell::new(0),
        }
    }

    /// The length of the sequence `name` in the main graph; `None` if it is not known.
    pub(super) fn of(&self, graph: &GraphProto, name: &str) -> Option<Length> {
        self.steps.set(0);
        self.find(&Scope::of_graph(graph, None), name)
    }

    fn find(&self, scope: &Scope<'_>, name: &str) -> Option<Length> {
        let (mut name, mut inserted) = (name, 0_isize);
        let length = loop {
            self.steps.set(self.steps.get() + 1);
            if self.steps.get() > MAX_STEPS {
                return None;
            }
            let (scope, node, output) = match scope.maker(name)? {
                Maker::Node(scope, node, output) => (scope, node, output),
                Maker::Caller(length) => break length?,
            };
            match node.op_type() {
                _ if !is_onnx_domain(node.domain()) => break self.called(scope, node, output)?,
                "SequenceInsert" => inserted += 1,
                "SequenceErase" => inserted -= 1,
                "Identity" | "Optional" | "OptionalGetElement" | "SequenceMap" => {}
                "SequenceConstruct" => break Length::sure(node.input.len()),
                "SequenceEmpty" => break Length::sure(0),
                "SplitToSequence" => break scope.split(node)?,
                "If" => break self.branches(scope, node, output)?,
                _ => break self.called(scope, node, output)?,
            }
            name = node.input.first()?;
        };
        Some(Length {
            tensors: length.tensors.checked_add_signed(inserted)?,
            ..length
        })
    }

    /// The length that both branches return.
    fn branches(&self, scope: &Scope<'_>, node: &NodeProto, output: usize) -> Option<Length> {
        let mut lengths = traverse::subgraphs(node).map(|graph| {
            let inner = Scope::of_graph(graph, Some(scope));
            self.find_within(&inner, graph.output.get(output)?.name())
        });
        let first = lengths.next()??;
        let is_same = |other: Option<Length>| other.is_some_and(|it| it.tensors == first.tensors);
        lengths.all(is_same).then_some(first)
    }

    /// The length that a function of the model returns.
    fn called(&self, scope: &Scope<'_>, node: &NodeProto, output: usize) -> Option<Length> {
        let key = call_key(node);
        let function = self.functions.iter().find(|it| key_of(it) == key)?;
        let given = function.input.iter().zip(&node.input);
        let given = given.map(|(inner, outer)| (inner.as_str(), self.find_within(scope, outer)));
        let inner = Scope {
            makers: makers(&function.node),
            initializers: HashMap::new(),
            declared: HashMap::new(),
            given: given.collect(),
            around: None,
        };
        self.find_within(&inner, function.output.get(output)?)
    }

    fn find_within(&self, scope: &Scope<'_>, name: &str) -> Option<Length> {
        let depth = self.depth.get();
        if depth == MAX_DEPTH {
            return None;
        }
        self.depth.set(depth + 1);
        let found = self.find(scope, name);
        self.depth.set(depth);
        found
    }
}

impl Length {
    fn sure(tensors: usize) -> Self {
        Self {
            tensors,
            is_declared: false,
        }
    }
}

enum Maker<'s, 'a> {
    Node(&'s Scope<'a>, &'a NodeProto, usize),
    Caller(Option<Length>),
}

impl<'a> Scope<'a> {
    fn of_graph(graph: &'a GraphProto, around: Option<&'a Scope<'a>>) -> Self {
        let values = graph.input.iter().chain(&graph.value_info);
        Self {
            makers: makers(&graph.node),
            initializers: graph.initializer.iter().map(|it| (it.name(), it)).collect(),
            declared: values.map(|it| (it.name(), it)).collect(),
            given: HashMap::new(),
            around,
        }
    }

    /// The source of a name, searched from this scope outwards.
    fn maker(&self, name: &str) -> Option<Maker<'_, 'a>> {
        if let Some(length) = self.given.get(name) {
            return Some(Maker::Caller(*length));
        }
        match self.makers.get(name) {
            Some(&(node, output)) => Some(Maker::Node(self, node, output)),
            None if self.declared.contains_key(name) => None,
            None => self.around?.maker(name),
        }
    }

    /// The length of the output of a `SplitToSequence`.
    fn split(&self, node: &NodeProto) -> Option<Length> {
        let sizes = match node.input.get(1).filter(|name| !name.is_empty()) {
            None => Some((0, vec![1])),
            Some(name) => self.integers(name),
        };
        match sizes? {
            (1, sizes) => Some(Length::sure(sizes.len())),
            (0, sizes) => {
                let each = usize::try_from(*sizes.first()?).ok().filter(|&it| it > 0)?;
                let size = self.declared_size(node)?;
                Some(Length {
                    tensors: size.div_ceil(each),
                    is_declared: true,
                })
            }
            _ => None,
        }
    }

    /// The rank and the values of a constant.
    fn integers(&self, name: &str) -> Option<(usize, Vec<i64>)> {
        if let Some(tensor) = self.initializers.get(name) {
            return integers(tensor);
        }
        let Some(&(node, _)) = self.makers.get(name) else {
            return self.around?.integers(name);
        };
        if !is_op(node, "Constant") {
            return None;
        }
        if let Some(value) = traverse::attribute(node, "value_int") {
            return Some((0, vec![value.i()]));
        }
        if let Some(values) = traverse::attribute(node, "value_ints") {
            return Some((1, values.ints.clone()));
        }
        integers(traverse::attribute(node, "value")?.t.as_ref()?)
    }

    /// The declared size of a node's input along the axis of the split.
    fn declared_size(&self, node: &NodeProto) -> Option<usize> {
        let shape = value_info(self.declared.get(node.input.first()?.as_str())?).shape?;
        let axis = traverse::attribute(node, "axis").map_or(0, |it| it.i());
        let rank = i64::try_from(shape.len()).ok()?;
        let axis = if axis < 0 { axis + rank } else { axis };
        let size = shape.get(usize::try_from(axis).ok()?)?;
        usize::try_from(*size).ok().filter(|&it| it > 0)
    }
}

fn makers(nodes: &[NodeProto]) -> HashMap<&str, (&NodeProto, usize)> {
    let made = nodes.iter().flat_map(|node| {
        let outputs = node.output.iter().enumerate();
        outputs.map(move |(index, name)| (name.as_str(), (node, index)))
    });
    made.collect()
}

fn integers(tensor: &TensorProto) -> Option<(usize, Vec<i64>)> {
    let tensor = to_tensor(tensor)?;
    let wide = tensor.as_slice::<i64>().map(<[i64]>::to_vec);
    let narrow = || {
        let values = tensor.as_slice::<i32>()?.iter();
        Some(values.map(|&it| i64::from(it)).collect())
    };
    Some((tensor.shape().len(), wide.or_else(narrow)?))
}
