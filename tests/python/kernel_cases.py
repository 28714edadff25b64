"""One request that works for each operator that ONNX Runtime has a kernel for, and wrong ones made of it.

Not here: what is asked and expected of a server (`test_kernels.py`).
"""

import copy
import random

import numpy as np

import onnx_models

ML, MICROSOFT, NCHWC = "ai.onnx.ml", "com.microsoft", "com.microsoft.nchwc"
DOMAINS = ((ML, 3), (MICROSOFT, 1), (NCHWC, 1))
DATA_TYPES = {
    "float32": 1, "uint8": 2, "int8": 3, "uint16": 4, "int16": 5, "int32": 6, "int64": 7,
    "object": 8, "bool": 9, "float16": 10, "float64": 11, "uint32": 12, "uint64": 13,
}  # fmt: skip


# The types that `Where` has kernels for.
CHOSEN = ("float32", "float64", "int32", "int64", "uint8", "object")
RETURN_SEQUENCE = """SequenceConstruct SequenceErase SequenceInsert SplitToSequence ZipMap""".split()
# In the short form, one in this many mutations of an unchecked input is sent.
FEW = 5


class Case:
    """A graph of one operator (or of `before`, it and `after`), and inputs that it takes."""

    def __init__(self, op, inputs, opset=17, domain="", returns=1, before=(), fixed=(), **attributes):
        """Of the inputs, which may be None for one that is left out, those in `fixed` are weights."""
        self.fixed = [f"x{index}" for index in fixed]
        self.op, self.inputs, self.opset, self.domain = op, inputs, opset, domain
        self.returns, self.before, self.attributes = returns, before, attributes

    def __str__(self):
        names = [f"{key}={value}" for key, value in self.attributes.items()]
        shapes = [None if it is None else it.shape for it in self.inputs]
        return f"{self.domain}:{self.op} of opset {self.opset} {shapes} {' '.join(names)[:80]}"

    def fed(self):
        """The inputs that a request has, by name."""
        return {name: it for name, it in self._given().items() if name not in self.fixed}

    def with_constants(self, kind):
        """This case with more of its inputs as weights, all "but the first" or the "scalars"; None where
        that is the same case. Kernels read these once, at load."""
        names = self.fed()
        scalars = [name for name, it in names.items() if it.size == 1]
        fixed = list(names)[1:] if kind == "but the first" else scalars
        fixed = [name for name in fixed if name in names and names[name].dtype != object]
        if not fixed or len(fixed) == len(names):
            return None
        case = copy.copy(self)
        case.fixed = [*self.fixed, *fixed]
        return case

    def _given(self):
        return {f"x{index}": it for index, it in enumerate(self.inputs) if it is not None}

    def all_constant(self):
        """The ONNX file with all inputs as weights, and an input that the operator does not read: ONNX
        Runtime computes such a graph while it loads the file."""
        case = copy.copy(self)
        case.fixed = list(self._given())
        model = onnx_models.messages()["onnx.ModelProto"].FromString(case.model(True))
        for values, name in ((model.graph.input, "unread"), (model.graph.output, "same")):
            tensor = values.add(name=name).type.tensor_type
            tensor.elem_type = DATA_TYPES["float32"]
            tensor.shape.dim.add(dim_param="n")
        model.graph.node.add(op_type="Identity", input=["unread"], output=["same"])
        return model.SerializeToString()

    def model(self, is_ranked, is_computed=False, within=None, is_whole=False):
        """The ONNX file. It returns the number of elements of each output, so that types and sizes of
        these do not matter; the outputs themselves if it `is_whole`. Where it `is_computed`, the operator has results of others as inputs: ONNX
        Runtime's own tensors, of which those without elements have no memory at all. The operator can be
        `within` a "function", a "branch" or a "loop"."""
        model = onnx_models.messages()["onnx.ModelProto"](ir_version=8)
        for domain, version in (("", self.opset), *DOMAINS):
            model.opset_import.add(domain=domain, version=version)
        graph = model.graph
        graph.name = "graph"
        for name, array in self.fed().items():
            tensor = graph.input.add(name=name).type.tensor_type
            tensor.elem_type = DATA_TYPES[array.dtype.name]
            if is_ranked:
                tensor.shape.SetInParent()
                for size in array.shape:
                    tensor.shape.dim.add(dim_value=size)
        for name in self.fixed:
            array = self._given()[name]
            weight = graph.initializer.add(name=name, dims=array.shape, raw_data=array.tobytes())
            weight.data_type = DATA_TYPES[array.dtype.name]
        given = self._given()
        names = [f"x{index}" for index in range(len(self.inputs))]
        names = [name if name in given else "" for name in names]
        results = [f"y{index}" for index in range(self.returns)]
        # `Where` exists from opset 9 on.
        if is_computed and self.opset >= 9:
            names = self._compute(graph, names)
        for op, inputs, output in self.before:
            inputs = [names[int(name[1:])] for name in inputs]
            graph.node.add(op_type=op, input=inputs, output=[output])
            names = [output if name in inputs else name for name in names]
            names = list(dict.fromkeys(names)) if op == "SequenceConstruct" else names
        around = graph
        if within in ("branch", "loop"):
            graph = onnx_models.messages()["onnx.GraphProto"](name=within)
            if within == "loop":
                names = [f"{name}_state" if name in self.fed() else name for name in names]
        if within == "function":
            node = self._in_function(model, names, results)
        else:
            node = graph.node.add(op_type=self.op, domain=self.domain, input=names, output=results)
        for name, value in self.attributes.items():
            set_attribute(node.attribute.add(name=name.rstrip("_")), value)
        is_sequence = self.op in RETURN_SEQUENCE
        for result in results:
            if is_whole:
                graph.output.add(name=result)
                continue
            size = "SequenceLength" if is_sequence else "Size"
            graph.node.add(op_type=size, input=[result], output=[f"{result}_size"])
            tensor = graph.output.add(name=f"{result}_size").type.tensor_type
            tensor.elem_type = DATA_TYPES["int64"]
        if within == "branch":
            self._in_branch(around, graph)
        if within == "loop":
            self._in_loop(around, graph)
        return model.SerializeToString()

    def _in_branch(self, graph, branch):
        """Adds an `If` that takes this branch. ONNX Runtime does not know that it does."""
        other = onnx_models.messages()["onnx.GraphProto"](name="other")
        minus = np.int64(-1)
        graph.initializer.add(name="minus", data_type=DATA_TYPES["int64"], raw_data=minus.tobytes())
        graph.node.add(op_type="Size", input=[next(iter(self.fed()))], output=["elements"])
        graph.node.add(op_type="Equal", input=["elements", "minus"], output=["is_minus"])
        choice = graph.node.add(op_type="If", input=["is_minus"])
        for output in branch.output:
            choice.output.append(f"{output.name}_of_branch")
            graph.output.add(name=choice.output[-1]).CopyFrom(output)
            graph.output[-1].name = choice.output[-1]
            same = f"{output.name}_of_other"
            other.node.add(op_type="Identity", input=["elements"], output=[same])
            other.output.add(name=same).type.tensor_type.elem_type = DATA_TYPES["int64"]
        set_attribute(choice.attribute.add(name="then_branch"), other)
        set_attribute(choice.attribute.add(name="else_branch"), branch)

    def _in_loop(self, graph, body):
        """Adds a `Loop` of one round, whose states are the inputs."""
        rounds, yes = np.int64(1), np.bool_(True)
        graph.initializer.add(name="rounds", data_type=DATA_TYPES["int64"], raw_data=rounds.tobytes())
        graph.initializer.add(name="go", data_type=DATA_TYPES["bool"], raw_data=yes.tobytes())
        loop = graph.node.add(op_type="Loop", input=["rounds", "go"])
        results = list(body.output)
        del body.output[:]
        for name, dtype in (("number", "int64"), ("is_next", "bool")):
            body.input.add(name=name).type.tensor_type.elem_type = DATA_TYPES[dtype]
            body.input[-1].type.tensor_type.shape.SetInParent()
        body.node.add(op_type="Identity", input=["is_next"], output=["is_more"])
        body.output.add(name="is_more").type.tensor_type.elem_type = DATA_TYPES["bool"]
        for name, array in self.fed().items():
            loop.input.append(name)
            loop.output.append(f"{name}_last")
            elem_type = DATA_TYPES[array.dtype.name]
            body.input.add(name=f"{name}_state").type.tensor_type.elem_type = elem_type
            body.node.add(op_type="Identity", input=[f"{name}_state"], output=[f"{name}_same"])
            body.output.add(name=f"{name}_same").type.tensor_type.elem_type = elem_type
        for result in results:
            body.output.add().CopyFrom(result)
            loop.output.append(f"{result.name}_of_loop")
            graph.output.add(name=loop.output[-1]).type.tensor_type.elem_type = DATA_TYPES["int64"]
        set_attribute(loop.attribute.add(name="body"), body)

    def _in_function(self, model, names, results):
        """Adds a call of a function of the model, and returns the operator's node in it."""
        model.opset_import.add(domain="local", version=1)
        function = model.functions.add(name="call", domain="local", output=results)
        function.input.extend(name for name in names if name)
        for domain, version in (("", self.opset), *DOMAINS):
            function.opset_import.add(domain=domain, version=version)
        call = model.graph.node.add(op_type="call", domain="local", output=results)
        call.input.extend(function.input)
        return function.node.add(op_type=self.op, domain=self.domain, input=names, output=results)

    def _compute(self, graph, names):
        """Adds a node for each of the inputs, and returns the names of what they return."""
        yes = graph.initializer.add(name="yes", data_type=DATA_TYPES["bool"], raw_data=b"\1")
        computed = list(names)
        for index, name in enumerate(names):
            if name in self.fed() and self.fed()[name].dtype.name in CHOSEN:
                computed[index] = f"{name}_computed"
                inputs = [yes.name, name, name]
                graph.node.add(op_type="Where", input=inputs, output=[computed[index]])
        return computed

    def mutations(self, limited=None):
        """Wrong and unusual inputs, described: the base, other shapes and extreme values of one input
        and of all. With `limited`, all of the inputs in it, and few of the rest."""
        base = self.fed()
        yield "as it is", base
        for name in base:
            is_short = limited is not None and name not in limited
            yield from list(self._mutations_of(name))[:: FEW if is_short else 1]
        for rank in range(6):
            for size in (0, 1, 2, 3):
                shape = (size,) * rank
                yield f"all {shape}", {name: resized(it, shape) for name, it in base.items()}
        sizes = sorted({size for it in base.values() for size in it.shape})
        for size in sizes:
            for other in (0, 1, 17):
                changed = {
                    name: resized(it, tuple(other if its == size else its for its in it.shape))
                    for name, it in base.items()
                }
                if other != size and all(it.size < 300_000 for it in changed.values()):
                    yield f"every size of {size} -> {other}", changed
        for axis in (0, 1):
            for size in (0, 1, 2, 9):
                yield f"all {size} along {axis}", {
                    name: resized(it, it.shape[:axis] + (size,) + it.shape[axis + 1 :])
                    if it.ndim > axis
                    else it
                    for name, it in base.items()
                }
        pick = random.Random(str(self))
        for _ in range(25 if limited is None else 3):
            changed = {}
            for name, array in base.items():
                if pick.random() < 0.6:
                    array = resized(array, pick.choice(list(shapes(array.shape))))
                if pick.random() < 0.3:
                    array = pick.choice([it for _, it in extremes(array)] or [array])
                changed[name] = array
            yield f"random {[(it.shape, it.flat[:1]) for it in changed.values()]}", changed


    def _mutations_of(self, name):
        base = self.fed()
        array = base[name]
        for shape in shapes(array.shape):
            yield f"{name} {array.shape} -> {shape}", base | {name: resized(array, shape)}
        for what, extreme in extremes(array):
            yield f"{name} {what}", base | {name: extreme}


def set_attribute(attribute, value):
    """Fills an AttributeProto by the type of `value`."""
    first = value[0] if isinstance(value, list) else value
    kinds = [(int, "i", "ints", 2, 7), (float, "f", "floats", 1, 6), (str, "s", "strings", 3, 8)]
    for kind, one, several, number, numbers in kinds:
        if isinstance(first, kind):
            encoded = [it.encode() if kind is str else it for it in np.atleast_1d(value).tolist()]
            if isinstance(value, list):
                attribute.type = numbers
                getattr(attribute, several).extend(encoded)
            else:
                attribute.type = number
                setattr(attribute, one, encoded[0])
            return
    if not isinstance(value, (np.ndarray, list)):
        attribute.type = 5
        attribute.g.CopyFrom(value)
        return
    attribute.type, attribute.t.data_type = 4, DATA_TYPES[first.dtype.name]
    attribute.t.dims.extend(first.shape)
    attribute.t.raw_data = first.tobytes()


def sums():
    """A body of `Scan` that adds each element to its state, and returns the element."""
    graph = onnx_models.messages()["onnx.GraphProto"](name="sums")
    graph.node.add(op_type="Add", input=["state", "element"], output=["sum"])
    graph.node.add(op_type="Identity", input=["element"], output=["same"])
    for values, names in ((graph.input, ("state", "element")), (graph.output, ("sum", "same"))):
        for name in names:
            values.add(name=name).type.tensor_type.elem_type = DATA_TYPES["float32"]
    return graph


def stops_by_state():
    """A body of `Loop` that goes on while its second state is false."""
    graph = doubles()
    elem_type = DATA_TYPES["bool"]
    graph.input.add(name="stop").type.tensor_type.elem_type = elem_type
    graph.output.insert(2, graph.output[1])
    graph.output[2].name, graph.output[2].type.tensor_type.elem_type = "same_stop", elem_type
    graph.node.add(op_type="Identity", input=["stop"], output=["same_stop"])
    graph.node.add(op_type="Not", input=["stop"], output=["go_on"])
    graph.output[0].name = "go_on"
    return graph


def doubles():
    """A body of `Loop` that doubles its state, and returns what it was."""
    graph = onnx_models.messages()["onnx.GraphProto"](name="doubles")
    graph.node.add(op_type="Add", input=["state", "state"], output=["twice"])
    graph.node.add(op_type="Identity", input=["state"], output=["before"])
    graph.node.add(op_type="Identity", input=["goes_on"], output=["still"])
    inputs = {"round": "int64", "goes_on": "bool", "state": "float32"}
    outputs = {"still": "bool", "twice": "float32", "before": "float32"}
    for values, types in ((graph.input, inputs), (graph.output, outputs)):
        for name, dtype in types.items():
            tensor = values.add(name=name).type.tensor_type
            tensor.elem_type = DATA_TYPES[dtype]
            if dtype != "float32":
                tensor.shape.SetInParent()
    return graph


def branch(op):
    """A branch of `If` that applies an operator to a number."""
    graph = onnx_models.messages()["onnx.GraphProto"](name=op)
    number = of(-2.0)
    graph.initializer.add(name=f"{op}_of", data_type=1, raw_data=number.tobytes())
    graph.node.add(op_type=op, input=[f"{op}_of"], output=[f"{op}_is"])
    graph.output.add(name=f"{op}_is").type.tensor_type.elem_type = DATA_TYPES["float32"]
    return graph


def decoder():
    """A GPT of one layer for the searches: the token follows from the one before, and its number is what
    is kept of it."""
    words = 5
    graph = onnx_models.messages()["onnx.GraphProto"](name="decoder")
    inputs = {
        "input_ids": ("int32", "batch", "length"),
        "position_ids": ("int32", "batch", "length"),
        "attention_mask": ("int32", "batch", "all"),
        "past_0": ("float32", 2, "batch", 1, "past", 1),
    }
    outputs = {
        "logits": ("float32", "batch", "length", words),
        "present_0": ("float32", 2, "batch", 1, "all", 1),
    }
    for values, declared in ((graph.input, inputs), (graph.output, outputs)):
        for name, (dtype, *sizes) in declared.items():
            tensor = values.add(name=name).type.tensor_type
            tensor.elem_type = DATA_TYPES[dtype]
            tensor.shape.SetInParent()
            for size in sizes:
                dim = {"dim_value": size} if isinstance(size, int) else {"dim_param": size}
                tensor.shape.dim.add(**dim)
    for name, array in (("table", f(words, words)), ("axes", i64(0, 2, 4))):
        weight = graph.initializer.add(name=name, dims=array.shape, raw_data=array.tobytes())
        weight.data_type = DATA_TYPES[array.dtype.name]
    graph.node.add(op_type="Gather", input=["table", "input_ids"], output=["logits"])
    cast = graph.node.add(op_type="Cast", input=["input_ids"], output=["numbers"])
    set_attribute(cast.attribute.add(name="to"), DATA_TYPES["float32"])
    graph.node.add(op_type="Unsqueeze", input=["numbers", "axes"], output=["one"])
    for axis, joined, output in ((0, ["one", "one"], "both"), (3, ["past_0", "both"], "present_0")):
        concat = graph.node.add(op_type="Concat", input=joined, output=[output])
        set_attribute(concat.attribute.add(name="axis"), axis)
    return graph


def shapes(shape):
    """Other shapes: of every rank up to 7, with sizes of 0, and larger and smaller ones."""
    found = []
    for rank in range(8):
        if rank == len(shape):
            continue
        found += [(1,) * rank, (2,) * rank, (0,) * rank, (4,) + (0,) * (rank - 1) if rank else ()]
        found += [shape[:rank] + (1,) * (rank - len(shape)), (1,) * (rank - len(shape)) + shape]
        found += [shape[len(shape) - rank :] if rank < len(shape) else (), (0,) + (3,) * (rank - 1)]
    for axis, size in enumerate(shape):
        for other in (0, 1, size + 1, max(size - 1, 0), size * 2, 17):
            found.append(shape[:axis] + (other,) + shape[axis + 1 :])
    found += [(0,) * len(shape), (1,) * len(shape)]
    small = (it for it in dict.fromkeys(found) if it != shape and np.prod(it) < 300_000)
    return small


def resized(array, shape):
    """The array's elements, as often as they fit into another shape."""
    if array.size == 0 or 0 in shape:
        return np.full(shape, b"", array.dtype) if array.dtype == object else np.zeros(shape, array.dtype)
    return np.resize(array.reshape(-1), shape)


def extremes(array):
    """The array with extreme values, everywhere and at its ends."""
    if array.dtype in (object, np.bool_):
        return
    if np.issubdtype(array.dtype, np.integer):
        limits = np.iinfo(array.dtype)
        values = [limits.min, limits.max, -1, 0, 1, 7, 100_000, -100_000]
        values = [it for it in values if limits.min <= it <= limits.max]
    else:
        values = [np.nan, np.inf, -np.inf, 6e4, 0.0, -1.0]
    for value in values:
        yield f"all {value}", np.full(array.shape, value, array.dtype)
        for end in (0, -1):
            if array.size > 1:
                changed = array.copy()
                changed.reshape(-1)[end] = value
                yield f"{value} at {end}", changed


def f(*shape):
    """Floats between -1 and 1 that differ."""
    count = int(np.prod(shape))
    return np.sin(np.arange(1, count + 1, dtype=np.float32)).reshape(shape)


def u8(*shape):
    return np.arange(int(np.prod(shape)), dtype=np.uint8).reshape(shape)


def i32(*values):
    return np.int32(values)


def i64(*values):
    return np.int64(values)


def of(value, dtype=np.float32):
    """A scalar."""
    return np.array(value, dtype)


def text(*values):
    return np.array([it.encode() for it in values], dtype=object)


def ones(dtype, *shape):
    return np.ones(shape, dtype)


# Elementwise, with one input.
UNARY = """Abs Acos Acosh Asin Asinh Atan Atanh Ceil Celu Clip Cos Cosh Dropout Elu Erf Exp Floor
    HardSigmoid HardSwish Hardmax Identity IsInf IsNaN LeakyRelu Log LogSoftmax LpNormalization
    Neg NonZero Reciprocal Relu Round Selu Shape Shrink Sigmoid Sign Sin Sinh Size Softmax Softplus
    Softsign Sqrt Tan Tanh ThresholdedRelu Transpose Flatten Squeeze
    MeanVarianceNormalization RandomNormalLike RandomUniformLike Bernoulli
    Unique Mish Trilu""".split()
BINARY = "Add Div Equal Greater GreaterOrEqual Less LessOrEqual Max Mean Min Mul PRelu Pow Sub Sum Mod"
REDUCING = """ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin
    ReduceProd ReduceSum ReduceSumSquare ArgMax ArgMin""".split()


def onnx_cases():
    """Of ONNX's own operators."""
    for op in UNARY:
        rank_4 = op in ("MeanVarianceNormalization",)
        yield Case(op, [f(1, 2, 3, 4) if rank_4 else f(1, 3)], 18)
    yield Case("DynamicQuantizeLinear", [f(2, 3)], returns=3)
    yield Case("Gelu", [f(2, 3)], 20)
    yield Case("Swish", [f(2, 3)], 24)
    yield Case("Not", [ones(bool, 2)])
    yield Case("BitwiseNot", [i32(1, 2)], 18)
    yield Case("Cast", [f(2, 3)], to=7)
    yield Case("Cast", [text("1", "2")], to=1)
    yield Case("CastLike", [f(2, 3), i64(1)])
    yield Case("BitCast", [f(2, 3)], 26, to=6)
    for op in BINARY.split():
        for other in (f(2, 3), f(3)):
            yield Case(op, [f(2, 3), other], **({"fmod": 1} if op == "Mod" else {}))
    for opset in (7, 8, 9, 13, 14, 20):
        for dtype in (np.int32, np.int64):
            yield Case("Div", [np.array([7, -7], dtype), np.array([3, 2], dtype)], opset)
    for dtype in (np.int8, np.uint8, np.int16, np.int32, np.int64):
        for op in ("Div", "Mod"):
            yield Case(op, [np.array([7, 8], dtype), np.array([3, 2], dtype)])
    for op in ("And", "Or", "Xor"):
        yield Case(op, [ones(bool, 2, 3), ones(bool, 3)])
    for op in ("BitwiseAnd", "BitwiseOr", "BitwiseXor"):
        yield Case(op, [i32(1, 2), i32(3, 2)], 18)
    yield Case("BitShift", [np.uint32([1, 2]), np.uint32([1, 3])], direction="LEFT")
    yield Case("Where", [ones(bool, 2, 3), f(2, 3), f(3)])
    for op in REDUCING:
        yield Case(op, [f(2, 3, 4)], 13, **({"axis": 1} if "Arg" in op else {}))
        if "Arg" not in op:
            yield Case(op, [f(2, 3, 4), i64(1)], 18)
    yield Case("TopK", [f(2, 5), i64(2)], returns=2)
    yield Case("CumSum", [f(2, 3), of(1, np.int64)])
    yield Case("CumProd", [f(2, 3), of(1, np.int64)], 26)
    yield Case("Unique", [f(3, 4)], axis=0, returns=4)
    yield Case("Unique", [f(2, 3, 4)], axis=-1, returns=4)
    yield Case("Compress", [f(2, 3), ones(bool, 2)], axis=0)
    yield Case("Concat", [f(2, 3), f(2, 3)], axis=1)
    yield Case("Split", [f(4, 3), i64(1, 3)], axis=0, returns=2)
    yield Case("Slice", [f(4, 5), i64(0, 1), i64(2, 4), i64(0, 1), i64(1, 2)])
    yield Case("Gather", [f(3, 4), i64(0, 2)], axis=1)
    yield Case("GatherElements", [f(3, 4), ones(np.int64, 3, 2)], axis=1)
    yield Case("GatherND", [f(3, 4), ones(np.int64, 2, 2)])
    yield Case("GatherND", [f(2, 3, 4), ones(np.int64, 2, 1)], batch_dims=1)
    for op in ("Scatter", "ScatterElements"):
        yield Case(op, [f(3, 3), ones(np.int64, 1, 3), f(1, 3)], 9 if op == "Scatter" else 18)
    yield Case("ScatterND", [f(4, 3), i64(0, 2).reshape(2, 1), f(2, 3)])
    yield Case("TensorScatter", [f(2, 4, 3), f(2, 1, 3), i64(1, 2)], 24, axis=1)
    yield Case("OneHot", [i64(0, 1), of(3, np.int64), f(2)])
    yield Case("Reshape", [f(2, 3), i64(3, -1)])
    yield Case("Reshape", [f(2, 3), i64(6, 1)], allowzero=1)
    yield Case("Squeeze", [f(1, 3), i64(0)])
    yield Case("Unsqueeze", [f(2, 3), i64(0, 3)])
    yield Case("Expand", [f(1, 3), i64(2, 3)])
    yield Case("Tile", [f(2, 3), i64(2, 1)])
    yield Case("Pad", [f(2, 3), i64(0, 1, 0, 1), of(0)])
    for mode in ("reflect", "edge"):
        yield Case("Pad", [f(4, 3), i64(0, 1, 0, 1)], mode=mode)
    yield Case("CenterCropPad", [f(4, 5), i64(2, 6)], 18)
    yield Case("Transpose", [f(2, 3, 4)], perm=[2, 0, 1])
    yield Case("DepthToSpace", [f(1, 4, 2, 2)], blocksize=2)
    yield Case("SpaceToDepth", [f(1, 1, 4, 4)], blocksize=2)
    for axes in ([1], [-1]):
        scan = {"num_scan_inputs": 1, "scan_input_axes": axes, "body": sums()}
        yield Case("Scan", [f(3), f(3, 4)], returns=2, **scan)
    yield Case("Scan", [None, f(2, 3), f(2, 4, 3)], 8, returns=2, num_scan_inputs=1, body=sums())
    yield Case("Trilu", [f(3, 3), of(1, np.int64)])
    yield Case("EyeLike", [f(3, 3)])
    yield Case("ConstantOfShape", [i64(2, 3)])
    for dtype in (np.float32, np.int32, np.int64, np.int16):
        yield Case("Range", [of(0, dtype), of(5, dtype), of(1, dtype)])
    yield Case("Range", [of(0, np.float16), of(5, np.float16), of(1, np.float16)], 27)
    yield Case("Einsum", [f(2, 3), f(3, 4)], equation="ij,jk->ik")
    yield Case("Einsum", [f(2, 3, 4)], equation="...ij->...ji")
    yield Case("Einsum", [f(2, 3), f(4, 3)], equation="ij,kj->ki")
    yield Case("Einsum", [f(2, 3, 2, 4), f(2, 5, 2, 4)], equation="bqhd,bkhd->bhqk")
    yield Case("Einsum", [f(2, 2, 3, 5), f(2, 5, 2, 4)], equation="bhqk,bkhd->bqhd")
    yield Case("MatMul", [f(2, 3, 4), f(2, 4, 5)])
    yield Case("MatMul", [f(2, 3), f(3)])
    yield Case("Gemm", [f(2, 3), f(3, 4), f(4)])
    yield Case("MatMulInteger", [u8(2, 3), u8(3, 4), of(1, np.uint8), of(1, np.uint8)])
    q = [of(0.1), of(3, np.uint8)]
    yield Case("QLinearMatMul", [u8(2, 3), *q, u8(3, 4), *q, *q])
    yield Case("QLinearConv", [u8(1, 2, 5, 5), *q, u8(3, 2, 3, 3), *q, *q, i32(1, 2, 3)])
    yield Case("QuantizeLinear", [f(2, 3), *q])
    yield Case("DequantizeLinear", [u8(2, 3), *q])
    yield Case("QuantizeLinear", [f(2, 3), abs(f(3)), u8(3)], axis=1)
    yield Case("DequantizeLinear", [u8(2, 3), f(3), u8(3)], axis=1)
    yield Case("QuantizeLinear", [f(4, 4), abs(f(2, 4)), u8(2, 4)], 21, axis=0, block_size=2)
    yield Case("DequantizeLinear", [u8(4, 4), f(2, 4), u8(2, 4)], 21, axis=0, block_size=2)
    yield Case("Det", [f(2, 3, 3)])
    for size in ((6,), (6, 6), (4, 6, 6)):
        kernel = [2] * len(size)
        x, w = f(1, 2, *size), f(2, 2, *kernel)
        yield Case("Conv", [x, w, f(2)])
        yield Case("ConvTranspose", [x, w, f(2)])
        for op in ("AveragePool", "MaxPool", "LpPool"):
            yield Case(op, [x], kernel_shape=kernel)
            yield Case(op, [x], 22, kernel_shape=kernel, ceil_mode=1)
            yield Case(op, [x], 22, kernel_shape=kernel, ceil_mode=1, strides=kernel, dilations=kernel)
            yield Case(op, [x], kernel_shape=kernel, auto_pad="SAME_UPPER", strides=kernel)
        for op in ("GlobalAveragePool", "GlobalLpPool", "GlobalMaxPool"):
            yield Case(op, [x])
        yield Case("InstanceNormalization", [x, f(2), f(2)])
        yield Case("BatchNormalization", [x, f(2), f(2), f(2), abs(f(2))])
        yield Case("GroupNormalization", [x, f(2), f(2)], 21, num_groups=2)
    yield Case("ConvInteger", [u8(1, 2, 5, 5), u8(3, 2, 3, 3), of(1, np.uint8)])
    yield Case("DeformConv", [f(1, 1, 4, 4), f(1, 1, 2, 2), f(1, 8, 3, 3)], 19, kernel_shape=[2, 2])
    indices = i64(0, 3, 8, 10).reshape(1, 1, 2, 2)
    attributes = {"kernel_shape": [2, 2], "strides": [2, 2]}
    yield Case("MaxUnpool", [f(1, 1, 2, 2), indices, i64(1, 1, 4, 4)], **attributes)
    yield Case("MaxUnpool", [f(1, 1, 2, 2), indices], **attributes)
    yield Case("MaxPool", [f(1, 1, 4, 4)], returns=2, kernel_shape=[2, 2])
    yield Case("LRN", [f(1, 4, 5, 5)], size=3)
    yield Case("LayerNormalization", [f(2, 3, 4), f(4), f(4)], returns=3)
    yield Case("RMSNormalization", [f(2, 3, 4), f(4)], 23)
    yield Case("Resize", [f(1, 1, 2, 2), None, np.float32([1, 1, 2, 2])])
    for mode in ("linear", "cubic"):
        yield Case("Resize", [f(1, 1, 2, 2), None, None, i64(1, 1, 4, 4)], mode=mode)
    yield Case("Resize", [f(1, 1, 2, 2), f(8), None, i64(1, 1, 4, 4)],
               coordinate_transformation_mode="tf_crop_and_resize")  # fmt: skip
    yield Case("Upsample", [f(1, 1, 2, 2), np.float32([1, 1, 2, 2])], 9)
    yield Case("AffineGrid", [f(1, 2, 3), i64(1, 1, 4, 4)], 20)
    yield Case("Col2Im", [f(1, 4, 9), i64(4, 4), i64(2, 2)], 18)
    for opset in (16, 20):
        for mode in ("bilinear", "nearest", "bicubic"):
            name = {"bilinear": "linear", "bicubic": "cubic"}.get(mode, mode) if opset > 16 else mode
            yield Case("GridSample", [f(1, 1, 4, 4), f(1, 3, 3, 2)], opset, mode=name)
    yield Case("GridSample", [f(1, 1, 4, 4, 4), f(1, 3, 3, 3, 3)], 20)
    for opset in (10, 16):
        for mode in ("avg", "max"):
            boxes = np.float32([[0, 0, 3, 3], [1, 1, 4, 4]])
            yield Case("RoiAlign", [f(1, 2, 6, 6), boxes, i64(0, 0)], opset, mode=mode)
    for opset in (7, 17):
        boxes = np.float32([[0, 0, 0, 3, 3]])
        yield Case("MaxRoiPool", [f(1, 2, 6, 6), boxes], opset, pooled_shape=[2, 2])
    yield Case("NonMaxSuppression", [f(1, 3, 4), f(1, 1, 3), i64(2), f(1), f(1)])
    for opset in (10, 17):
        yield Case("ReverseSequence", [f(4, 3), i64(1, 2, 4)], opset)
    yield Case("ReverseSequence", [f(2, 4, 3), i64(2, 4)], batch_axis=0, time_axis=1)
    for opset in (17, 20):
        extra = {"axis": 1} if opset == 17 else {}
        yield Case("DFT", [f(1, 8, 1)], opset, **extra)
        yield Case("DFT", [f(1, 8, 2), of(8, np.int64)], opset, inverse=1, **extra)
    yield Case("DFT", [f(1, 8, 1), None, of(1, np.int64)], 20, onesided=1)
    step, length = of(4, np.int64), of(8, np.int64)
    yield Case("STFT", [f(1, 32, 1), step, None, length])
    yield Case("STFT", [f(1, 32, 1), step, f(8)])
    yield Case("STFT", [f(1, 32, 1), step, f(8), length])
    for op in ("BlackmanWindow", "HammingWindow", "HannWindow"):
        yield Case(op, [of(8, np.int64)])
    sizes = [of(it, np.int64) for it in (4, 16, 8000)]
    yield Case("MelWeightMatrix", [*sizes, of(10.0), of(3000.0)])
    for op, gates in (("RNN", 1), ("GRU", 3), ("LSTM", 4)):
        for direction, ways in (("forward", 1), ("bidirectional", 2)):
            weights = [f(ways, 4 * gates, 3), f(ways, 4 * gates, 4)]
            more = [f(ways, 8 * gates), i32(5, 3), f(ways, 2, 4)]
            for inputs in ([f(5, 2, 3), *weights], [f(5, 2, 3), *weights, *more]):
                returns = 3 if op == "LSTM" else 2
                yield Case(op, inputs, hidden_size=4, direction=direction, returns=returns)
                yield Case(op, inputs, hidden_size=4, direction=direction, returns=2)
    cache = [f(2, 2, 3, 4), f(2, 2, 3, 4)]
    q4 = [f(2, 2, 5, 4), f(2, 2, 5, 4), f(2, 2, 5, 4)]
    yield Case("Attention", q4, 23)
    yield Case("Attention", [*q4, f(5, 8), *cache], 23, returns=3)
    yield Case("Attention", [*q4, None, *cache], 24, returns=3, is_causal=1)
    yield Case("Attention", [*q4, None, *cache], 25, returns=3, is_causal=1, left_window_size=2)
    q3 = [f(2, 5, 8), f(2, 5, 8), f(2, 5, 8)]
    yield Case("Attention", [*q3, None, *cache], 23, returns=3, q_num_heads=2, kv_num_heads=2)
    yield Case("RotaryEmbedding", [f(1, 2, 3, 4), f(5, 2), f(5, 2), ones(np.int64, 1, 3)], 23)
    yield Case("Multinomial", [f(2, 3)], sample_size=4)
    yield Case("SoftmaxCrossEntropyLoss", [f(2, 3), i64(0, 1)])
    yield Case("NegativeLogLikelihoodLoss", [f(2, 3), i64(0, 1)])
    yield Case("StringConcat", [text("a", "b"), text("c")], 20)
    yield Case("StringSplit", [text("a b", "c")], 20, returns=2)
    yield Case("RegexFullMatch", [text("a", "b")], 20, pattern="[a-z]+")
    yield Case("TfIdfVectorizer", [i64(1, 2, 3)], mode="TF", min_gram_length=1, max_gram_length=2,
               max_skip_count=0, ngram_counts=[0, 2], ngram_indexes=[0, 1, 2],
               pool_int64s=[1, 2, 1, 2])  # fmt: skip
    pair = (("SequenceConstruct", ["x0", "x1"], "s"),)
    yield Case("ConcatFromSequence", [f(2, 3), f(2, 3)], before=pair, axis=0)
    yield Case("ConcatFromSequence", [f(2, 3), f(2, 3)], before=pair, axis=-1, new_axis=1)
    yield Case("SequenceAt", [f(2, 3), f(3), of(1, np.int64)], before=pair)
    yield Case("SequenceErase", [f(2, 3), f(3), of(1, np.int64)], before=pair)
    yield Case("SequenceInsert", [f(2, 3), f(3), f(1)], before=pair)
    yield Case("SplitToSequence", [f(4, 3), i64(1, 3)], axis=0)
    yield Case("SequenceConstruct", [f(2, 3), f(3)])
    yield Case("SequenceLength", [f(2, 3), f(3)], before=pair)
    yield Case("SimplifiedLayerNormalization", [f(2, 3, 4), f(4)], axis=-1)
    yield Case("Loop", [of(3, np.int64), of(True, np.bool_), f(2)], body=doubles(), returns=2)
    stops = [of(3, np.int64), of(True, np.bool_), f(2), of(False, np.bool_)]
    yield Case("Loop", stops, body=stops_by_state(), returns=3)
    yield Case("If", [of(True, np.bool_)], then_branch=branch("Neg"), else_branch=branch("Abs"))
    columns = [u8(2, 2, 3), u8(2, 3, 4), of(1, np.uint8), u8(2, 1, 4)]
    yield Case("MatMulInteger", columns)


def ml_cases():
    """Of the operators for classic models."""
    x = f(2, 3)
    yield Case("ArrayFeatureExtractor", [x, i64(0, 2)], domain=ML)
    yield Case("Binarizer", [x], domain=ML, threshold=0.5)
    yield Case("CategoryMapper", [text("a", "b")], domain=ML, cats_strings=["a", "b"],
               cats_int64s=[0, 1])  # fmt: skip
    yield Case("FeatureVectorizer", [x, x], domain=ML, inputdimensions=[3, 3])
    yield Case("Imputer", [x], domain=ML, imputed_value_floats=[1.0, 2.0, 3.0],
               replaced_value_float=0.5)  # fmt: skip
    yield Case("LabelEncoder", [text("a", "b")], domain=ML, keys_strings=["a", "b"],
               values_int64s=[0, 1])  # fmt: skip
    two = {"coefficients": [1.0, 2.0, 3.0, 1.0, 1.0, 1.0], "classlabels_ints": [0, 1]}
    yield Case("LinearClassifier", [x], domain=ML, returns=2, intercepts=[0.5, 0.1], **two)
    yield Case("LinearRegressor", [x], domain=ML, coefficients=[1.0, 2.0, 3.0], intercepts=[0.5])
    for norm in ("L1", "L2", "MAX"):
        yield Case("Normalizer", [x], domain=ML, norm=norm)
    yield Case("OneHotEncoder", [i64(1, 2)], domain=ML, cats_int64s=[1, 2, 3])
    yield Case("Scaler", [x], domain=ML, offset=[0.0, 1.0, 2.0], scale=[1.0, 1.0, 2.0])
    kernel = {"kernel_params": [0.1, 0.1, 3.0], "rho": [0.1]}
    vectors = {"support_vectors": [1.0, 2.0, 3.0, 4.0, 5.0, 6.0], "coefficients": [1.0, 2.0]}
    yield Case("SVMRegressor", [x], domain=ML, n_supports=2, kernel_type="RBF", **vectors, **kernel)
    yield Case("SVMClassifier", [x], domain=ML, returns=2, vectors_per_class=[1, 1],
               classlabels_ints=[0, 1], kernel_type="RBF", **vectors, **kernel)  # fmt: skip
    tree = {
        "nodes_treeids": [0, 0, 0], "nodes_nodeids": [0, 1, 2], "nodes_featureids": [1, 0, 0],
        "nodes_values": [0.5, 0.0, 0.0], "nodes_modes": ["BRANCH_LEQ", "LEAF", "LEAF"],
        "nodes_truenodeids": [1, 0, 0], "nodes_falsenodeids": [2, 0, 0],
    }  # fmt: skip
    leaves = {"treeids": [0, 0], "nodeids": [1, 2], "ids": [0, 0], "weights": [1.0, 2.0]}
    target = {f"target_{key}": value for key, value in leaves.items()}
    yield Case("TreeEnsembleRegressor", [x], domain=ML, n_targets=1, **tree, **target)
    classes = {f"class_{key}": value for key, value in leaves.items()} | {"class_ids": [0, 1]}
    yield Case("TreeEnsembleClassifier", [x], domain=ML, returns=2, classlabels_int64s=[0, 1],
               **tree, **classes)  # fmt: skip


def microsoft_cases():
    """Of ONNX Runtime's own operators."""
    heads = {"num_heads": 2, "domain": MICROSOFT}
    q, zero = [of(0.1), of(3, np.uint8)], of(3, np.uint8)
    x, mask = f(2, 3, 8), ones(np.int32, 2, 3)
    own = {"domain": MICROSOFT}
    for op in ("BiasGelu", "FastGelu"):
        yield Case(op, [x, f(8)], **own)
    for op in ("Gelu", "QuickGelu"):
        yield Case(op, [x], **own)
    for op in ("FusedMatMul", "TransposeMatMul"):
        yield Case(op, [f(2, 3, 4), f(2, 4, 5)], **own)
    yield Case("FusedGemm", [f(3, 4), f(4, 5), f(5)], activation="Relu", **own)
    yield Case("FusedConv", [f(1, 2, 5, 5), f(3, 2, 3, 3), f(3)], activation="Relu", **own)
    for more in ([], [i32(2, 3)], [mask], [None, None, f(2, 2, 3, 3)]):
        yield Case("Attention", [x, f(8, 24), f(24), *more], **heads)
    yield Case("MultiHeadAttention", [x, x, f(2, 3, 12)], **heads)
    past = f(2, 2, 2, 2, 4)
    yield Case("Attention", [x, f(8, 24), f(24), ones(np.int32, 2, 5), past], returns=2, **heads)
    quantized = [u8(2, 3, 8), u8(8, 24), f(24), of(0.1), of(0.1)]
    yield Case("QAttention", [*quantized, i32(2, 3), zero, zero], **heads)
    yield Case("QAttention", [*quantized, None, zero, zero, past], returns=2, **heads)
    for inputs in ([x, x, x], [x, x, x, f(24), mask], [x, f(2, 2, 3, 4), f(2, 2, 3, 4)]):
        yield Case("MultiHeadAttention", inputs, **heads)
    cache = [f(2, 2, 2, 4), f(2, 2, 2, 4)]
    inputs = [x, x, x, f(24), i32(3, 3), f(2, 2, 3, 5), *cache]
    yield Case("MultiHeadAttention", inputs, returns=3, **heads)
    one, cache = f(2, 1, 8), [f(2, 2, 4, 4), f(2, 2, 4, 4)]
    inputs = [one, one, one, None, None, *cache, i32(2), i32(1)]
    yield Case("DecoderMaskedMultiHeadAttention", inputs, returns=3, past_present_share_buffer=1,
               **heads)  # fmt: skip
    grouped = {"returns": 3, "kv_num_heads": 1, **heads}
    cache = [f(2, 1, 4, 8), f(2, 1, 4, 8)]
    inputs = [f(2, 1, 16), f(2, 1, 8), f(2, 1, 8), *cache, i32(2, 3), i32(5)]
    yield Case("GroupQueryAttention", inputs, **grouped)
    cache = [f(2, 1, 4, 16), f(2, 1, 4, 16)]
    inputs = [f(2, 1, 32), f(2, 1, 16), f(2, 1, 16), *cache, i32(2, 3), i32(5), f(8, 8), f(8, 8)]
    yield Case("GroupQueryAttention", inputs, do_rotary=1, **grouped)
    inputs = [*inputs, i64(3, 2).reshape(2, 1)]
    yield Case("GroupQueryAttention", inputs, do_rotary=1, **grouped)
    yield Case("RotaryEmbedding", [f(2, 3, 16), ones(np.int64, 2, 3), f(8, 4), f(8, 4)], **heads)
    yield Case("RotaryEmbedding", [f(2, 2, 3, 8), i64(1), f(8, 4), f(8, 4)], **own)
    ids, zeros = ones(np.int32, 2, 3), np.zeros((2, 3), np.int32)
    inputs = [ids, zeros, f(10, 8), f(6, 8), f(2, 8), f(8), f(8), ids]
    yield Case("EmbedLayerNormalization", inputs, returns=2, fixed=(2, 3, 4, 5, 6), **own)
    inputs = [ids, None, f(10, 8), f(6, 8), None, f(8), f(8), None, ids]
    yield Case("EmbedLayerNormalization", inputs, returns=2, fixed=(2, 3, 5, 6), **own)
    inputs = [ids, zeros, f(10, 8), f(6, 8), f(2, 8), f(8), f(8), ids]
    yield Case("EmbedLayerNormalization", inputs, returns=2, **own)
    inputs = [ids, None, f(10, 8), f(6, 8), None, f(8), f(8), ids, ids]
    yield Case("EmbedLayerNormalization", inputs, returns=3, mask_index_type=1, **own)
    scales = [of(0.1)] * 5 + [of(1, np.uint8)] * 5
    inputs = [ids, zeros, u8(10, 8), u8(6, 8), u8(2, 8), u8(8), u8(8), ids, *scales]
    yield Case("QEmbedLayerNormalization", inputs, returns=2, **own)
    yield Case("SkipLayerNormalization", [x, x, f(8), f(8), f(8)], **own)
    yield Case("SkipSimplifiedLayerNormalization", [x, x, f(8), f(8)], **own)
    yield Case("MatMulNBits", [f(2, 32), u8(16, 1, 16), f(16)], K=32, N=16, bits=4, block_size=32,
               **own)  # fmt: skip
    yield Case("MatMulBnb4", [f(2, 32), u8(256), f(16)], K=32, N=16, block_size=32, quant_type=1,
               **own)  # fmt: skip
    yield Case("GatherBlockQuantized", [u8(4, 16), i64(0, 1), f(4, 1)], bits=8, block_size=16,
               gather_axis=0, quantize_axis=1, **own)  # fmt: skip
    yield Case("MatMulInteger16", [ones(np.int16, 2, 3), ones(np.int16, 3, 4)], **own)
    inputs = [u8(2, 3), u8(3, 4), of(0.1), of(0.1), zero, zero, f(4)]
    yield Case("MatMulIntegerToFloat", inputs, **own)
    yield Case("DynamicQuantizeMatMul", [f(2, 3), u8(3, 4), of(0.1), zero, f(4)], **own)
    inputs = [u8(2, 3), u8(3, 4), of(0.1), f(4), of(3, np.uint8), u8(4), f(4)]
    yield Case("MatMulIntegerToFloat", inputs, **own)
    yield Case("QGemm", [u8(2, 3), *q, u8(3, 4), *q, i32(1, 2, 3, 4), *q], **own)
    for op in ("QLinearAdd", "QLinearMul"):
        yield Case(op, [u8(2, 3), *q, u8(2, 3), *q, *q], **own)
    for op in ("QLinearLeakyRelu", "QLinearSigmoid"):
        yield Case(op, [u8(2, 3), *q, *q], **own)
    yield Case("QLinearSoftmax", [u8(2, 3), *q, *q], opset_=13, **own)
    for last, x4 in ((0, u8(1, 2, 5, 5)), (1, u8(1, 5, 5, 2))):
        pool = {"kernel_shape": [3, 3], "channels_last": last, **own}
        yield Case("QLinearAveragePool", [x4, *q, *q], **pool)
        yield Case("QLinearAveragePool", [x4, *q, *q], strides=[2, 2], pads=[1, 1, 1, 1], **pool)
        yield Case("QLinearGlobalAveragePool", [x4, *q, *q], channels_last=last, **own)
    yield Case("QLinearConcat", [*q, u8(2, 3), *q, u8(2, 3), *q], axis=1, **own)
    yield Case("QLinearWhere", [ones(bool, 2, 3), u8(2, 3), *q, u8(2, 3), *q, *q], **own)
    inputs = [u8(1, 5, 5, 2), *q, u8(3, 2, 3, 3), *q, *q, i32(1, 2, 3)]
    yield Case("QLinearConv", inputs, channels_last=1, **own)
    yield Case("QuantizeLinear", [f(2, 3), *q], **own)
    yield Case("DequantizeLinear", [u8(2, 3), *q], **own)
    yield Case("NhwcMaxPool", [u8(1, 5, 5, 2)], kernel_shape=[3, 3], **own)
    inputs = [f(1, 2, 5, 5), ones(np.int32, 1, 2, 5, 5)]
    yield Case("MaxpoolWithMask", inputs, kernel_shape=[3, 3], **own)
    inputs = [f(1, 2, 3, 3), f(2, 3, 3, 3), i64(0, 0, 0, 0), f(3)]
    yield Case("ConvTransposeWithDynamicPads", inputs, kernel_shape=[3, 3], **own)
    yield Case("CausalConvWithState", [f(2, 4, 5), f(4, 1, 3), f(4), f(2, 4, 2)], returns=2, **own)
    weights, scale = [u8(1, 3, 16), u8(1, 4, 16), f(1, 32)], [f(1), u8(1), f(1), u8(1)]
    state = [f(1, 2, 4), f(1, 2, 4), f(1, 12)]
    lstm = {"hidden_size": 4, "returns": 3, **own}
    yield Case("DynamicQuantizeLSTM", [f(5, 2, 3), *weights, i32(5, 3), *state, *scale], **lstm)
    inputs = [f(5, 2, 3), *weights, i32(5, 3), *state, *scale]
    yield Case("DynamicQuantizeLSTM", inputs, fixed=(1, 2, 9, 11), **lstm)
    inputs = [f(3, 8), f(3, 4), f(4, 16, 8), f(4, 16), f(4, 8, 16), f(4, 8)]
    yield Case("MoE", inputs, k=2, activation_type="relu", **own)
    weights = [u8(4, 32, 16), f(4, 32), f(4, 32), u8(4, 32, 16), f(4, 32), f(4, 32)]
    mixture = {"k": 2, "expert_weight_bits": 4, **own}
    yield Case("QMoE", [f(3, 32), f(3, 4), *weights], activation_type="relu", **mixture)
    weights = [u8(4, 32, 16), f(4, 32, 1), f(4, 32), u8(4, 32, 16), f(4, 32, 1), f(4, 32)]
    inputs = [f(3, 32), f(3, 4), *weights]
    yield Case("QMoE", inputs, activation_type="gelu", block_size=32, **mixture)
    yield Case("SampleOp", [f(3)], **own)
    yield Case("UnfoldTensor", [f(3, 8)], size=2, step=2, dim=1, **own)
    words = i32(1, 2, 3, 1, 2, 3, 0, 0, 1, 2, 3, 4).reshape(2, 6)
    yield Case("WordConvEmbedding", [words, f(4, 1, 2, 3), f(4), f(10, 3)], **own)
    yield Case("CropAndResize", [f(1, 2, 8, 8), abs(f(2, 4)), i32(0, 0), i32(4, 4)], **own)
    yield Case("GridSample", [f(1, 1, 4, 4), f(1, 3, 3, 2)], **own)
    yield Case("GatherND", [f(3, 4), ones(np.int64, 2, 2)], **own)
    yield Case("ExpandDims", [f(2, 3), of(1, np.int32)], **own)
    yield Case("Inverse", [f(2, 3, 3)], **own)
    yield Case("CDist", [f(3, 4), f(2, 4)], metric="euclidean", **own)
    yield Case("Pad", [f(2, 3), i64(0, 1, 0, 1), of(0)], **own)
    yield Case("Range", [of(0), of(5), of(1)], **own)
    yield Case("Trilu", [f(3, 3), of(0, np.int64)], **own)
    yield Case("Unique", [f(6)], returns=3, **own)
    yield Case("MurmurHash3", [i32(1, 2, 3)], **own)
    yield Case("NGramRepeatBlock", [i64(1, 2, 1, 2).reshape(1, 4), f(1, 10)], ngram_size=2, **own)
    yield Case("DynamicTimeWarping", [f(4, 5)], **own)
    yield Case("Tokenizer", [text("a b", "c d e")], mark=1, mincharnum=1, pad_value="#",
               separators=[" "], **own)  # fmt: skip


def nchwc_cases():
    """Of the operators that ONNX Runtime's optimizer puts in the place of others, with 16 channels: a block
    of most processors, or two."""
    own, image = {"domain": NCHWC}, f(1, 16, 5, 5)
    for op in ("MaxPool", "AveragePool"):
        for padding in ({}, {"pads": [1, 1, 1, 1]}, {"auto_pad": "SAME_UPPER"}, {"ceil_mode": 1}):
            for strides in ([1, 1], [2, 2]):
                yield Case(op, [image], kernel_shape=[3, 3], strides=strides, **padding, **own)
    for op in ("GlobalMaxPool", "GlobalAveragePool"):
        yield Case(op, [image], **own)
    for last in (0, 1):
        yield Case("ReorderInput", [f(1, 16, 3, 16)], channels_last=last, **own)
        yield Case("ReorderOutput", [image], channels=12, channels_last=last, **own)
    for more in ({}, {"mode": "linear", "coordinate_transformation_mode": "half_pixel"}):
        yield Case("Upsample", [image], scales=[1, 1, 2, 2], **more, **own)
    weight = f(16, 16, 3, 3)
    conv = {"kernel_shape": [3, 3], "strides": [2, 2], **own}
    yield Case("Conv", [image, weight, f(16)], fixed=(1, 2), activation="Relu", **conv)
    yield Case("Conv", [image, weight, f(16), f(1, 16, 2, 2)], fixed=(1, 2), **conv)
    yield Case("Conv", [image, f(16, 1, 3, 3)], fixed=(1,), group=16, **conv)
    yield Case("Conv", [f(1, 3, 5, 5), f(16, 3, 3, 3)], fixed=(1,), pads=[1, 1, 1, 1], **conv)


def search_cases():
    """Of operators that search with a decoder, all numbers as inputs. They need ranks that are declared."""
    ids, one, factor = i32(1, 2, 3, 1, 2, 3).reshape(2, 3), i32(1), np.float32([1])
    own = {"decoder": decoder(), "eos_token_id": 4, "pad_token_id": 0, "domain": MICROSOFT}
    beams = [ids, i32(6), one, i32(2), one, factor, factor]
    yield Case("BeamSearch", beams, model_type=0, **own)
    yield Case("GreedySearch", [ids, i32(6), one, factor], model_type=0, **own)
    masks = [ones(np.int32, 5), ones(np.int32, 2, 5), ones(np.int32, 2, 3), ones(np.int32, 2, 5)]
    inputs = [ids, i32(6), one, factor, *masks, i32(3)]
    yield Case("Sampling", inputs, model_type=0, top_p=0.9, temperature=1.0, **own)


def sparse_case():
    """Of an operator that was not tried with other ranks than it expects."""
    inputs = [f(1, 4, 32), f(1, 4, 16), f(1, 4, 16), f(1, 1, 32, 16), f(1, 1, 32, 16)]
    inputs += [i32(0, 1, 3).reshape(1, 3), i32(0, 0, 1).reshape(1, 3), i32(4), i32(4)]
    own = {"num_heads": 2, "kv_num_heads": 1, "sparse_block_size": 16, "domain": MICROSOFT}
    return Case("SparseAttention", inputs, returns=3, **own)


def untried_cases():
    """Of ONNX Runtime's own operators that were not tried with other ranks than they expect."""
    own = {"domain": MICROSOFT}
    x, branches = f(2, 3, 4), {"num_branches": 3}
    yield Case("BranchwiseRMSNorm", [x, f(3, 4)], **own)
    yield Case("BranchwiseRMSNorm", [f(2, 12), f(4)], **branches, **own)
    yield Case("HyperConnectionPreMix", [x, f(2, 3)], **own)
    yield Case("HyperConnectionPreMix", [f(2, 12), f(2, 12)], **branches, **own)
    yield Case("HyperConnectionPostMix", [x, f(2, 4), f(2, 3), f(2, 3, 3)], **own)
    yield Case("HyperConnectionPostMix", [f(2, 12), f(2, 4), f(2, 3)], **branches, **own)
    yield Case("GatedAdd", [x, x, f(2, 3, 1)], **own)
    yield Case("GatedRMSNorm", [f(2, 3, 8), f(4), f(2, 3, 8)], activation="silu", **own)
    yield Case("ScaledSiLU", [f(2, 3), of(0.5)], **own)
    keys = f(2, 3, 2, 4)
    yield Case("EngramGate", [keys, keys, x, f(2, 4), f(2, 4), f(2, 4)], returns=2, **own)
    yield Case("LinearAttentionGate", [x, f(4), f(4), x], returns=2, **own)
    heads = {"q_num_heads": 2, "kv_num_heads": 2, "returns": 2, **own}
    qkv, decay = [f(2, 3, 8), f(2, 3, 8), f(2, 3, 6)], f(2, 3, 2)
    rules = {"linear": [], "gated": [decay], "delta": [None, decay], "gated_delta": [decay, decay]}
    for rule, gates in rules.items():
        yield Case("LinearAttention", [*qkv, f(2, 2, 4, 3), *gates], update_rule=rule, **heads)
        yield Case("LinearAttention", [*qkv, None, *gates], update_rule=rule, **heads)
    ends, packed = i32(0, 2, 5), [f(5, 2, 4), f(5, 2, 4), f(5, 2, 3)]
    inputs = [*packed, ends, f(5, 2), f(5, 2), f(2, 2, 3, 4)]
    yield Case("GatedDeltaNet", inputs, returns=2, update_rule="gated_delta", **own)
    inputs = [f(5, 4), f(4, 1, 3), ends, f(4), f(2, 4, 2)]
    yield Case("VarlenCausalConvWithState", inputs, returns=2, activation="silu", **own)
    grams = {"pad_id": 0, "n_head_per_ngram": 2, "max_ngram_size": 3, "returns": 2, **own}
    factors, sizes = i64(3, 5, 7), i64(11, 13, 17, 19)
    yield Case("NGramHashMapping", [ones(np.int64, 2, 4), factors, sizes], **grams)
    yield Case("VarlenNGramHashMapping", [ones(np.int64, 5), factors, sizes, ends], **grams)
    groups = {"n_group": 2, "topk_group": 1, "top_k": 2, **own}
    yield Case("MoEGroupRouter", [f(3, 8), f(8)], **groups)
    turned = {"mrope_section": [1, 1, 2], **own}
    inputs = [f(1, 3, 16), ones(np.int64, 3, 1, 3), f(8, 4), f(8, 4)]
    yield Case("MRotaryEmbedding", inputs, num_heads=2, **turned)
    for kind, row in ((0, 128), (1, 64), (2, 18), (8, 34)):
        yield Case("GatherPacked", [u8(4, row), i64(0, 1)], packed_type=kind, K=32, output_dtype=1, **own)
    tokens = [i64(1, 5, 3, 4), i64(1, 5), of(0, np.int64), i64(1, 5, 3, 4, 2)]
    sizes = {"min_ngram_size": 1, "max_ngram_size": 3, "returns": 2, **own}
    yield Case("BifurcationDetector", tokens, **sizes)
    yield Case("BifurcationDetector", tokens[:3], **sizes)


def all_cases():
    """Every case whose operator takes inputs of any rank, those of one operator together."""
    return [*onnx_cases(), *ml_cases(), *microsoft_cases(), *nchwc_cases()]
