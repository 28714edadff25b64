//! What a model says about its tensors before any run: element types, and ranks where they are sure.
//!
//! Names have scopes: a nested graph sees the names around it, and two nested graphs may use one name
//! for different tensors. A function sees its own inputs only; what is known of them is what all its
//! callers agree on.
//!
//! Not here: what is made of it (`divide`, `guard`), shapes (`reshape`).

use std::collections::HashMap;

use super::constant::to_tensor;
use super::{is_onnx_domain, is_op, walk};
use crate::proto::onnx::{
    AttributeProto, FunctionProto, GraphProto, NodeProto, TensorProto, TypeProto, ValueInfoProto,
    tensor_proto::DataType as OnnxType, type_proto,
};

const INT32: i32 = OnnxType::Int32 as i32;
const INT64: i32 = OnnxType::Int64 as i32;
const FLOAT: i32 = OnnxType::Float as i32;

/// Functions that call each other are followed this deep.
const MAX_CALL_DEPTH: usize = 32;

/// What is known of one tensor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Facts {
    /// The element type, of a sequence that of its tensors.
    pub(super) elem: Elem,
    pub(super) rank: Option<usize>,
    /// How many elements it has, where it is a constant vector.
    len: Option<usize>,
    /// It is a constant, and -1 is not in it.
    pub(super) is_never_minus_one: bool,
    /// It is a constant with elements, or made of one.
    pub(super) is_filled: bool,
}

/// An element type.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) enum Elem {
    /// Any type at all.
    #[default]
    Unknown,
    /// Neither int32 nor int64.
    Other,
    /// This type of ONNX's.
    Is(i32),
}

impl Facts {
    fn of_type(elem: i32) -> Self {
        Self {
            elem: Elem::Is(elem),
            ..Self::default()
        }
    }

    /// What holds for both.
    fn common(self, other: Self) -> Self {
        let same = |one, other| if one == other { one } else { None };
        Self {
            elem: self.elem.common(other.elem),
            rank: same(self.rank, other.rank),
            len: same(self.len, other.len),
            is_never_minus_one: self.is_never_minus_one && other.is_never_minus_one,
            is_filled: self.is_filled && other.is_filled,
        }
    }

    fn of_tensor(tensor: &TensorProto) -> Self {
        let len = match tensor.dims.as_slice() {
            &[len] => usize::try_from(len).ok(),
            _ => None,
        };
        Self {
            elem: Elem::Is(tensor.data_type()),
            rank: Some(tensor.dims.len()),
            len,
            is_never_minus_one: is_never_minus_one(tensor),
            is_filled: !tensor.dims.contains(&0),
        }
    }
}

impl Elem {
    /// Whether it may be a type whose division can end the process.
    pub(super) fn may_be_wide_integer(self) -> bool {
        matches!(self, Self::Unknown | Self::Is(INT32 | INT64))
    }

    fn common(self, other: Self) -> Self {
        if self == other {
            return self;
        }
        match self.may_be_wide_integer() || other.may_be_wide_integer() {
            true => Self::Unknown,
            false => Self::Other,
        }
    }
}

fn is_never_minus_one(tensor: &TensorProto) -> bool {
    if ![INT32, INT64].contains(&tensor.data_type()) {
        return false;
    }
    let Some(values) = to_tensor(tensor) else {
        return false;
    };
    let wide = values.as_slice::<i64>().map(|it| it.contains(&-1));
    let narrow = values.as_slice::<i32>().map(|it| it.contains(&-1));
    wide.or(narrow) == Some(false)
}

/// A function by what calls it.
pub(super) type FunctionKey = (String, String, String);

/// The functions of a model, and what their callers give them.
#[derive(Default)]
pub(super) struct Functions<'a> {
    by_key: HashMap<FunctionKey, &'a FunctionProto>,
    /// What holds for the inputs in all calls seen so far.
    called_with: HashMap<FunctionKey, Vec<Facts>>,
    /// Results of calls.
    results: HashMap<(FunctionKey, Vec<Facts>), Vec<Facts>>,
    depth: usize,
}

impl<'a> Functions<'a> {
    pub(super) fn new(functions: &'a [FunctionProto]) -> Self {
        let keyed = functions.iter().map(|it| (key_of(it), it));
        Self {
            by_key: keyed.collect(),
            ..Self::default()
        }
    }

    /// What holds for the inputs of a function in all calls; `None` where it is not called.
    pub(super) fn called_with(&self, function: &FunctionProto) -> Option<&[Facts]> {
        self.called_with.get(&key_of(function)).map(Vec::as_slice)
    }

    /// What a call returns; `None` where the node calls no function of the model.
    fn call(&mut self, node: &NodeProto, inputs: Vec<Facts>) -> Option<Vec<Facts>> {
        let key = call_key(node);
        let function = *self.by_key.get(&key)?;
        let known = self.called_with.get(&key);
        let common = match known {
            Some(known) => {
                let pairs = known.iter().zip(&inputs);
                pairs.map(|(one, other)| one.common(*other)).collect()
            }
            None => inputs.clone(),
        };
        self.called_with.insert(key.clone(), common);
        let call = (key, inputs);
        if let Some(results) = self.results.get(&call) {
            return Some(results.clone());
        }
        if self.depth >= MAX_CALL_DEPTH {
            return Some(Vec::new());
        }
        self.depth += 1;
        let mut scopes = Scopes::default();
        scopes.enter_function(function, &call.1);
        scopes.learn_all(&function.node, self);
        self.depth -= 1;
        let results = function.output.iter().map(|name| scopes.facts(name));
        let results: Vec<Facts> = results.collect();
        self.results.insert(call, results.clone());
        Some(results)
    }
}

/// A function by itself.
pub(super) fn key_of(function: &FunctionProto) -> FunctionKey {
    let parts = [function.domain(), function.name(), function.overload()];
    let [domain, name, overload] = parts.map(str::to_owned);
    (domain, name, overload)
}

/// The function that a node would call.
pub(super) fn call_key(node: &NodeProto) -> FunctionKey {
    let parts = [node.domain(), node.op_type(), node.overload()];
    let [domain, name, overload] = parts.map(str::to_owned);
    (domain, name, overload)
}

/// The names that a place in a model sees, the innermost scope last.
#[derive(Default)]
pub(super) struct Scopes {
    scopes: Vec<HashMap<String, Facts>>,
    /// The model convolves, or has tensors that were quantized: the backend may have other kernels for
    /// nodes around these than their own.
    pub(super) may_be_fused: bool,
}

impl Scopes {
    /// Nothing is known yet but what operators the model has.
    pub(super) fn of_model(may_be_fused: bool) -> Self {
        Self {
            may_be_fused,
            ..Self::default()
        }
    }

    /// What is known of a tensor that is visible here.
    pub(super) fn facts(&self, name: &str) -> Facts {
        let mut scopes = self.scopes.iter().rev();
        let found = scopes.find_map(|scope| scope.get(name));
        found.copied().unwrap_or_default()
    }

    /// The facts of a node's input; nothing is known of one that is left out.
    pub(super) fn input(&self, node: &NodeProto, index: usize) -> Facts {
        let name = node.input.get(index).filter(|name| !name.is_empty());
        name.map_or_else(Facts::default, |name| self.facts(name))
    }

    /// Enters the main graph. Of the inputs that `is_ranked` the declared rank is sure.
    pub(super) fn enter_main(&mut self, graph: &GraphProto, is_ranked: impl Fn(&str) -> bool) {
        self.scopes.push(HashMap::new());
        self.declare(graph, is_ranked);
    }

    /// Enters a graph in an attribute of `node`, which is a node of the scope around it.
    pub(super) fn enter_nested(&mut self, node: &NodeProto, graph: &GraphProto) {
        let given = self.nested_inputs(node, graph);
        self.scopes.push(HashMap::new());
        for (input, facts) in graph.input.iter().zip(given) {
            self.insert(input.name(), facts);
        }
        self.declare(graph, |_| false);
    }

    /// Enters a function that is called with `inputs`.
    pub(super) fn enter_function(&mut self, function: &FunctionProto, inputs: &[Facts]) {
        self.scopes.push(HashMap::new());
        for (name, facts) in function.input.iter().zip(inputs) {
            self.insert(name, *facts);
        }
    }

    pub(super) fn leave(&mut self) {
        self.scopes.pop();
    }

    /// What is known of the inputs of a nested graph from those of its node.
    fn nested_inputs(&self, node: &NodeProto, graph: &GraphProto) -> Vec<Facts> {
        let elem = |index| Facts {
            elem: self.input(node, index).elem,
            ..Facts::default()
        };
        let inputs = 0..graph.input.len();
        match node.op_type() {
            "Loop" => inputs
                .map(|index| match index {
                    0 => Facts::of_type(INT64),
                    1 => Facts::of_type(OnnxType::Bool as i32),
                    _ => elem(index),
                })
                .collect(),
            // The first version had the lengths of sequences before the rest.
            "Scan" if graph.input.len() < node.input.len() => {
                inputs.map(|index| elem(index + 1)).collect()
            }
            "Scan" | "SequenceMap" => inputs.map(elem).collect(),
            _ => Vec::new(),
        }
    }

    fn insert(&mut self, name: &str, facts: Facts) {
        if let Some(scope) = self.scopes.last_mut() {
            scope.insert(name.to_owned(), facts);
        }
    }

    /// Takes note of what a graph declares.
    fn declare(&mut self, graph: &GraphProto, is_ranked: impl Fn(&str) -> bool) {
        for input in &graph.input {
            let mut facts = self.facts(input.name());
            if let Some(elem) = declared_elem(input) {
                facts.elem = Elem::Is(elem);
            }
            if is_ranked(input.name()) {
                facts.rank = declared_rank(input);
            }
            self.insert(input.name(), facts);
        }
        for value in graph.output.iter().chain(&graph.value_info) {
            if let Some(elem) = declared_elem(value) {
                let facts = Facts::of_type(elem);
                let known = self.scopes.last();
                if known.is_none_or(|it| !it.contains_key(value.name())) {
                    self.insert(value.name(), facts);
                }
            }
        }
        // A client may not replace a value of the file: an input that has one is a constant.
        for tensor in &graph.initializer {
            self.insert(tensor.name(), Facts::of_tensor(tensor));
        }
        for values in graph
            .sparse_initializer
            .iter()
            .filter_map(|it| it.values.as_ref())
        {
            self.insert(values.name(), Facts::of_type(values.data_type()));
        }
    }

    /// Takes note of what follows for the outputs of nodes in order.
    fn learn_all(&mut self, nodes: &[NodeProto], functions: &mut Functions<'_>) {
        for node in nodes {
            let bodies = walk::subgraphs(node).map(|graph| self.body(node, graph, functions));
            let bodies: Vec<Vec<Facts>> = bodies.collect();
            self.learn(node, &bodies, functions);
        }
    }

    /// What a nested graph returns.
    fn body(
        &mut self,
        node: &NodeProto,
        graph: &GraphProto,
        functions: &mut Functions<'_>,
    ) -> Vec<Facts> {
        self.enter_nested(node, graph);
        self.learn_all(&graph.node, functions);
        let results = self.results(graph);
        self.leave();
        results
    }

    /// What is known of the outputs of the graph that is entered.
    pub(super) fn results(&self, graph: &GraphProto) -> Vec<Facts> {
        let outputs = graph.output.iter();
        outputs.map(|output| self.facts(output.name())).collect()
    }

    /// Takes note of what follows for a node's outputs; `bodies` are what its nested graphs return.
    pub(super) fn learn(
        &mut self,
        node: &NodeProto,
        bodies: &[Vec<Facts>],
        functions: &mut Functions<'_>,
    ) {
        let inputs = (0..node.input.len()).map(|index| self.input(node, index));
        let inputs: Vec<Facts> = inputs.collect();
        let called = functions.call(node, inputs.clone());
        for (index, output) in node.output.iter().enumerate() {
            if output.is_empty() {
                continue;
            }
            let mut facts = match &called {
                Some(results) => results.get(index).copied().unwrap_or_default(),
                None => Rule {
                    node,
                    inputs: &inputs,
                    bodies,
                }
                .output(index),
            };
            if facts.elem == Elem::Unknown {
                // As declared, if it was.
                facts.elem = self.facts(output).elem;
            }
            self.insert(output, facts);
        }
    }
}

/// What follows for the outputs of a node of one of ONNX's own operators.
struct Rule<'a> {
    node: &'a NodeProto,
    inputs: &'a [Facts],
    bodies: &'a [Vec<Facts>],
}

/// Operators whose first output has the element type of their first input.
const KEEP_TYPE: &[&str] = &[
    "Abs",
    "BitwiseNot",
    "CenterCropPad",
    "Col2Im",
    "Compress",
    "ConcatFromSequence",
    "CumProd",
    "CumSum",
    "DepthToSpace",
    "DynamicSlice",
    "Expand",
    "Flatten",
    "Gather",
    "GatherElements",
    "GatherND",
    "GridSample",
    "Identity",
    "Neg",
    "Optional",
    "OptionalGetElement",
    "Pad",
    "Pow",
    "ReduceL1",
    "ReduceL2",
    "ReduceLogSum",
    "ReduceLogSumExp",
    "ReduceMax",
    "ReduceMean",
    "ReduceMin",
    "ReduceProd",
    "ReduceSum",
    "ReduceSumSquare",
    "Relu",
    "Reshape",
    "Resize",
    "ReverseSequence",
    "Scatter",
    "ScatterElements",
    "ScatterND",
    "SequenceAt",
    "SequenceErase",
    "Shrink",
    "Sign",
    "Slice",
    "SpaceToDepth",
    "SplitToSequence",
    "Squeeze",
    "TensorScatter",
    "Tile",
    "TopK",
    "Transpose",
    "Trilu",
    "Unique",
    "Unsqueeze",
    "Upsample",
];
/// Operators whose output has the element type that all their inputs have.
const SHARE_TYPE: &[&str] = &[
    "Add",
    "BitShift",
    "BitwiseAnd",
    "BitwiseOr",
    "BitwiseXor",
    "Clip",
    "Concat",
    "Div",
    "Einsum",
    "Gemm",
    "MatMul",
    "Max",
    "Mean",
    "Min",
    "Mod",
    "Mul",
    "PRelu",
    "Range",
    "SequenceConstruct",
    "SequenceInsert",
    "Sub",
    "Sum",
];
/// Operators whose type an attribute says, or that return what no rule here is about.
const OTHER_TYPE: &[&str] = &[
    "BitCast",
    "BlackmanWindow",
    "HammingWindow",
    "HannWindow",
    "MelWeightMatrix",
    "SequenceMap",
];
/// Operators whose first output has the rank of their first input.
const KEEP_RANK: &[&str] = &[
    "Abs",
    "AveragePool",
    "BatchNormalization",
    "Cast",
    "CastLike",
    "Ceil",
    "Clip",
    "Conv",
    "ConvTranspose",
    "CumSum",
    "DequantizeLinear",
    "Dropout",
    "Elu",
    "Erf",
    "Exp",
    "Floor",
    "GlobalAveragePool",
    "GlobalMaxPool",
    "HardSigmoid",
    "HardSwish",
    "Identity",
    "InstanceNormalization",
    "LeakyRelu",
    "Log",
    "LogSoftmax",
    "MaxPool",
    "Neg",
    "Not",
    "QuantizeLinear",
    "Relu",
    "Round",
    "Selu",
    "Sigmoid",
    "Sign",
    "Slice",
    "Softmax",
    "Softplus",
    "Sqrt",
    "Tanh",
    "Transpose",
];
/// Operators whose first output has as many elements as their first input.
const KEEP_FILLED: &[&str] = &[
    "Cast",
    "CastLike",
    "DequantizeLinear",
    "Flatten",
    "QuantizeLinear",
    "Reshape",
    "Squeeze",
    "Transpose",
    "Unsqueeze",
];
/// Operators whose output has the highest rank of their inputs.
const BROADCAST: &[&str] = &[
    "Add",
    "And",
    "Div",
    "Equal",
    "Greater",
    "GreaterOrEqual",
    "Less",
    "LessOrEqual",
    "Max",
    "Mean",
    "Min",
    "Mod",
    "Mul",
    "Or",
    "Pow",
    "Sub",
    "Sum",
    "Where",
    "Xor",
];

impl Rule<'_> {
    fn output(&self, index: usize) -> Facts {
        if is_op(self.node, "Constant") {
            return self.constant();
        }
        if is_op(self.node, "Identity") {
            return self.input(0);
        }
        Facts {
            elem: self.elem(index),
            rank: self.rank(index),
            is_filled: self.is_filled(index),
            ..Facts::default()
        }
    }

    /// Whether an output is known to have elements: no more than that of constants is followed.
    fn is_filled(&self, index: usize) -> bool {
        let is_known = matches!(self.node.domain(), "" | "ai.onnx" | "com.microsoft");
        let keeps = KEEP_FILLED.contains(&self.node.op_type());
        is_known && keeps && index == 0 && self.input(0).is_filled
    }

    fn constant(&self) -> Facts {
        let Some(attribute) = self.node.attribute.first().and_then(value_of) else {
            return Facts::default();
        };
        let vector = |elem, len| Facts {
            elem: Elem::Is(elem),
            rank: Some(1),
            len: Some(len),
            is_never_minus_one: !attribute.ints.contains(&-1),
            is_filled: len > 0,
        };
        let scalar = |elem| Facts {
            rank: Some(0),
            is_never_minus_one: attribute.i() != -1,
            is_filled: true,
            ..Facts::of_type(elem)
        };
        match attribute.name() {
            "value" => attribute
                .t
                .as_ref()
                .map_or_else(Facts::default, Facts::of_tensor),
            "value_int" => scalar(INT64),
            "value_ints" => vector(INT64, attribute.ints.len()),
            "value_float" => scalar(FLOAT),
            "value_floats" => vector(FLOAT, attribute.floats.len()),
            _ => Facts::default(),
        }
    }

    fn input(&self, index: usize) -> Facts {
        self.inputs.get(index).copied().unwrap_or_default()
    }

    fn attribute(&self, name: &str) -> Option<&AttributeProto> {
        walk::attribute(self.node, name)
    }

    /// The type that an attribute says, `default` where there is none.
    fn type_attribute(&self, name: &str, default: Elem) -> Elem {
        match self.attribute(name) {
            None => default,
            Some(attribute) => value_of(attribute)
                .and_then(|it| i32::try_from(it.i()).ok())
                .map_or(Elem::Unknown, Elem::Is),
        }
    }

    /// What all nested graphs return at `index`.
    fn body(&self, index: usize) -> Facts {
        let mut bodies = self.bodies.iter();
        let at = |body: &Vec<Facts>| body.get(index).copied().unwrap_or_default();
        let first = bodies.next().map(at).unwrap_or_default();
        bodies.fold(first, |facts, body| facts.common(at(body)))
    }

    fn elem(&self, index: usize) -> Elem {
        let op_type = self.node.op_type();
        match self.node.domain() {
            "" | "ai.onnx" => {}
            _ => return Elem::Unknown,
        }
        let first_known = || {
            let mut inputs = self.inputs.iter().map(|it| it.elem);
            inputs.find(|it| *it != Elem::Unknown).unwrap_or_default()
        };
        match (op_type, index) {
            ("Cast", 0) => self.type_attribute("to", Elem::Unknown),
            ("ConstantOfShape", 0) => match self.attribute("value") {
                None => Elem::Is(FLOAT),
                Some(attribute) => value_of(attribute)
                    .and_then(|it| it.t.as_ref())
                    .map_or(Elem::Unknown, |it| Elem::Is(it.data_type())),
            },
            ("EyeLike" | "Bernoulli", 0) => self.type_attribute("dtype", self.input(0).elem),
            ("Multinomial", 0) => self.type_attribute("dtype", Elem::Is(INT32)),
            ("SequenceEmpty", 0) => self.type_attribute("dtype", Elem::Is(FLOAT)),
            ("RandomNormalLike" | "RandomUniformLike", 0) => {
                self.type_attribute("dtype", self.input(0).elem)
            }
            ("ArgMax" | "ArgMin" | "NonMaxSuppression" | "NonZero", 0)
            | ("SequenceLength" | "Shape" | "Size", 0)
            | ("MaxPool" | "StringSplit" | "TopK" | "Unique", 1..) => Elem::Is(INT64),
            ("ConvInteger" | "MatMulInteger", 0) => Elem::Is(INT32),
            ("CastLike", 0) => self.input(1).elem,
            ("Where", 0) => match self.input(1).elem {
                Elem::Unknown => self.input(2).elem,
                known => known,
            },
            ("OneHot", 0) => self.input(2).elem,
            ("Split", _) => self.input(0).elem,
            ("If" | "Scan", _) => self.body(index).elem,
            // The first output of a body is its condition.
            ("Loop", _) => match self.body(index + 1).elem {
                Elem::Unknown => self.input(index + 2).elem,
                known => known,
            },
            (op_type, 0) if KEEP_TYPE.contains(&op_type) => self.input(0).elem,
            (op_type, 0) if SHARE_TYPE.contains(&op_type) => first_known(),
            (op_type, _) if OTHER_TYPE.contains(&op_type) => Elem::Unknown,
            // All others of ONNX's own return no such integers.
            _ => Elem::Other,
        }
    }

    fn rank(&self, index: usize) -> Option<usize> {
        if !is_onnx_domain(self.node.domain()) {
            return None;
        }
        let op_type = self.node.op_type();
        let of_input = |index: usize| self.input(index).rank;
        match (op_type, index) {
            ("Shape", 0) => Some(1),
            ("Size", 0) => Some(0),
            ("NonZero" | "Flatten" | "Gemm", 0) => Some(2),
            ("Reshape", 0) => match self.attribute("shape") {
                Some(shape) => value_of(shape).map(|it| it.ints.len()),
                None => self.input(1).len,
            },
            ("ConstantOfShape", 0) => self.input(0).len,
            ("Unsqueeze", 0) => of_input(0)?.checked_add(self.axes_len()?),
            ("Squeeze", 0) => of_input(0)?.checked_sub(self.axes_len()?),
            ("Gather", 0) => (of_input(0)? + of_input(1)?).checked_sub(1),
            ("MatMul", 0) => {
                let (one, other) = (of_input(0)?, of_input(1)?);
                (one >= 2 && other >= 2).then(|| one.max(other))
            }
            ("Concat", 0) => self.inputs.iter().find_map(|it| it.rank),
            ("Split", _) => of_input(0),
            (op_type, 0) if KEEP_RANK.contains(&op_type) => of_input(0),
            (op_type, 0) if BROADCAST.contains(&op_type) => {
                let ranks: Option<Vec<usize>> = self.inputs.iter().map(|it| it.rank).collect();
                ranks?.into_iter().max()
            }
            _ => None,
        }
    }

    /// How many axes an operator is told, as attribute or as input.
    fn axes_len(&self) -> Option<usize> {
        match self.attribute("axes") {
            Some(axes) => value_of(axes).map(|it| it.ints.len()),
            None => self.input(1).len,
        }
    }
}

/// An attribute that has its value here; that of a function may be its caller's.
fn value_of(attribute: &AttributeProto) -> Option<&AttributeProto> {
    attribute.ref_attr_name().is_empty().then_some(attribute)
}

fn declared_elem(value: &ValueInfoProto) -> Option<i32> {
    elem_of(value.r#type.as_ref()?)
}

fn elem_of(ty: &TypeProto) -> Option<i32> {
    match ty.value.as_ref()? {
        type_proto::Value::TensorType(tensor) => Some(tensor.elem_type()).filter(|it| *it != 0),
        type_proto::Value::SequenceType(sequence) => elem_of(sequence.elem_type.as_ref()?),
        type_proto::Value::OptionalType(optional) => elem_of(optional.elem_type.as_ref()?),
        _ => None,
    }
}

fn declared_rank(value: &ValueInfoProto) -> Option<usize> {
    match value.r#type.as_ref()?.value.as_ref()? {
        type_proto::Value::TensorType(tensor) => tensor.shape.as_ref().map(|it| it.dim.len()),
        _ => None,
    }
}
