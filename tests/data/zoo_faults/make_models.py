"""Writes the models of this folder that are not copies, with their cases. Needs numpy, onnx and onnxruntime.

Expected values are ONNX Runtime's own of the file as it is, or NumPy's where ONNX Runtime cannot run the file.
"""

import base64
import json
import pathlib

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

HERE = pathlib.Path(__file__).parent
FLOAT, INT32, INT64, BOOL, STRING = (
    TensorProto.FLOAT,
    TensorProto.INT32,
    TensorProto.INT64,
    TensorProto.BOOL,
    TensorProto.STRING,
)
NAMES = {"float32": "DT_FLOAT", "int32": "DT_INT32", "int64": "DT_INT64", "bool": "DT_BOOL", "object": "DT_STRING"}
INDEX = {}


def node(op, inputs, outputs, **attributes):
    return helper.make_node(op, inputs, outputs, name=f"n_{op}_{outputs[0]}", **attributes)


def value(name, elem, shape=None):
    return helper.make_tensor_value_info(name, elem, shape)


def by_name(name):
    info = onnx.ValueInfoProto()
    info.name = name
    return info


def const(name, array):
    array = np.asarray(array)
    if array.dtype.kind in "OSU":
        strings = [str(it).encode() for it in array.reshape(-1)]
        return helper.make_tensor(name, STRING, array.shape, strings)
    return numpy_helper.from_array(array, name)


def graph(nodes, inputs, outputs, constants=(), name="g"):
    return helper.make_graph(nodes, name, inputs, outputs, list(constants))


def model(main, opset=17, functions=(), imports=(), ir=8):
    imports = [helper.make_opsetid("", opset), *imports]
    return helper.make_model(main, opset_imports=imports, functions=list(functions), ir_version=ir)


def as_json(array):
    array = np.asarray(array)
    entry = {"dtype": NAMES[str(array.dtype)], "shape": list(array.shape)}
    if array.dtype == object:
        texts = [it.encode() if isinstance(it, str) else it for it in array.reshape(-1)]
        entry["strings_b64"] = [base64.b64encode(it).decode() for it in texts]
    else:
        entry["b64"] = base64.b64encode(np.ascontiguousarray(array).tobytes()).decode()
    return entry


def write(name, made, cases, about, expect=None, edit=lambda data: data, rename=lambda name: name):
    """`cases`: inputs by name; `expect`: what they give by name, else ONNX Runtime says it."""
    data = edit(made.SerializeToString())
    folder = HERE / name / "1"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.onnx").write_bytes(data)
    source = "NumPy's"
    if expect is None:
        source = "ONNX Runtime's own"
        session = onnxruntime.InferenceSession(made.SerializeToString())
        names = [it.name for it in session.get_outputs()]
        expect = lambda **inputs: dict(zip(names, session.run(names, inputs)))
    written = []
    for number, inputs in enumerate(cases):
        inputs = {key: np.asarray(it) for key, it in inputs.items()}
        inputs = {key: it.astype(object) if it.dtype.kind == "U" else it for key, it in inputs.items()}
        outputs = {rename(key): np.asarray(it) for key, it in expect(**inputs).items()}
        inputs = {rename(key): it for key, it in inputs.items()}
        answer = {key: it.tolist() for key, it in outputs.items()}
        body = {"inputs": {key: it.tolist() for key, it in inputs.items()}}
        if len(body["inputs"]) == 1:
            body = {"inputs": next(iter(body["inputs"].values()))}
        if len(answer) == 1:
            answer = next(iter(answer.values()))
        written.append(
            {
                "name": f"case {number}",
                "version": "1",
                "verb": "predict",
                "signature_name": "",
                "rest": {"path": f"/v1/models/{name}/versions/1:predict", "body": body},
                "inputs": {key: as_json(it) for key, it in inputs.items()},
                "expect": {
                    "status": 200,
                    "outputs": {key: as_json(it) for key, it in outputs.items()},
                    "rest": {"outputs": answer},
                },
            }
        )
    cases_file = {"model": name, "tolerance": {"abs": 1e-5, "rel": 1e-4}, "cases": written}
    (HERE / name / "cases.json").write_text(json.dumps(cases_file) + "\n")
    INDEX[name] = {
        "cases": f"{name}/cases.json",
        "model": name,
        "about": about,
        "licence": "generated for this project",
        "serves": "yes",
        "notes": [f"expected: {source}; written by make_models.py"],
    }


def same_names_in_loops():
    """Einsum in one body returns floats, in the other integers; both divide."""

    def body(elem, name):
        return graph(
            [
                node("Identity", ["cond_in"], ["cond_out"]),
                node("Einsum", ["carried", "carried"], ["t"], equation="i,i->i"),
                node("Div", ["t", "carried"], ["q"]),
                node("Add", ["q", "carried"], ["carried_out"]),
            ],
            [value("i", INT64, []), value("cond_in", BOOL, []), value("carried", elem)],
            [value("cond_out", BOOL, []), value("carried_out", elem)],
            name=name,
        )

    nodes = [
        node("Loop", ["rounds", "yes", "x"], ["xs"], body=body(FLOAT, "floats")),
        node("Loop", ["rounds", "yes", "n"], ["ns"], body=body(INT32, "ints")),
    ]
    constants = [const("rounds", np.int64(2)), const("yes", np.array(True))]
    made = model(
        graph(nodes, [value("x", FLOAT, ["a"]), value("n", INT32, ["b"])],
              [value("xs", FLOAT, ["a"]), value("ns", INT32, ["b"])], constants)
    )
    x, n = np.float32([1.5, -2]), np.int32([3, -5, 7])
    write("loop_names", made, [{"x": x, "n": n}], "two loop bodies use one name for tensors of different types")


def taken_names():
    """The names that edits like to use are taken: in the graph, in a nested one, in a function."""
    inner = graph(
        [
            node("Cast", ["x"], ["z/divide/is_minus_one"], to=INT32),
            node("Div", ["n", "z/divide/is_minus_one"], ["z"]),
        ],
        [], [value("z", INT32)], name="then",
    )
    other = graph(
        [node("Neg", ["n"], ["y/divide/sign"]), node("Div", ["y/divide/sign", "m"], ["z2"])],
        [], [value("z2", INT32)], name="else",
    )
    function = helper.make_function(
        "local", "Halves", ["y/divide/one"], ["y/divide/unsigned"],
        [node("Add", ["y/divide/one", "y/divide/one"], ["f"]), node("Div", ["f", "y/divide/one"], ["y/divide/unsigned"])],
        [helper.make_opsetid("", 17)],
    )
    nodes = [
        node("Div", ["n", "m"], ["y"]),
        node("Neg", ["y"], ["y/divide/one"]),
        node("Identity", ["x"], ["y/divide/minus_one"]),
        node("If", ["c"], ["w"], then_branch=inner, else_branch=other),
        helper.make_node("Halves", ["n"], ["h"], domain="local", name="y/divide/safe_divisor"),
    ]
    made = model(
        graph(
            nodes,
            [value("n", INT32, ["a"]), value("m", INT32, ["a"]), value("x", FLOAT, ["a"]), value("c", BOOL, [])],
            [value("y", INT32, ["a"]), value("y/divide/one", INT32, ["a"]), value("w", INT32, ["a"]),
             value("h", INT32, ["a"]), value("y/divide/minus_one", FLOAT, ["a"])],
        ),
        functions=[function], imports=[helper.make_opsetid("local", 1)],
    )
    n, m, x = np.int32([7, -9, 12]), np.int32([2, -1, 5]), np.float32([1.5, -2, 3])
    cases = [{"n": n, "m": m, "x": x, "c": np.array(c)} for c in (True, False)]
    write("taken_names", made, cases, "tensors and nodes already have the names that the server's edits would use")


def taken_names_of_weights():
    """Names for what is folded: a settled shape, the parameters of a batch normalization."""
    ones = np.ones((1, 2, 1, 1), np.float32)
    nodes = [
        node("Conv", ["x", "w"], ["conv"]),
        node("Relu", ["conv"], ["relu"]),
        node("Mul", ["relu", "scale"], ["product"]),
        node("Add", ["product", "offset"], ["sum"]),
        node("Neg", ["sum"], ["sum/batch_norm/scale"]),
        node("Shape", ["sum/batch_norm/scale"], ["shape"]),
        node("Gather", ["shape", "first"], ["rows"]),
        node("Concat", ["rows", "rest"], ["flat"], axis=0),
        node("Reshape", ["sum/batch_norm/scale", "flat"], ["y"]),
        node("Abs", ["y"], ["y/settled_shape"]),
    ]
    constants = [
        const("w", np.float32([[[[1]]], [[[2]]]])), const("scale", ones * 3), const("offset", ones),
        const("first", np.int64([0])), const("rest", np.int64([-1])), const("sum/batch_norm/mean", ones),
    ]
    nodes.append(node("Add", ["sum/batch_norm/scale", "sum/batch_norm/mean"], ["z"]))
    made = model(
        graph(nodes, [value("x", FLOAT, ["b", 1, 1, 2])],
              [value("y/settled_shape", FLOAT, ["b", 4]), value("z", FLOAT, ["b", 2, 1, 2])], constants)
    )
    x = np.float32([[[[3, -4]]], [[[0.5, 1]]]])
    write("taken_weights", made, [{"x": x}], "weights already have the names that the server's edits would use")


def strings_in_branches():
    """One cast outside serves comparisons outside and in both branches; one branch has a name of the other's."""
    then = graph(
        [node("Equal", ["a_number", "q_number"], ["e"]), node("Not", ["e"], ["r"])], [], [value("r", BOOL)], name="then",
    )
    other = graph(
        [node("Cast", ["x"], ["e"], to=INT32), node("Cast", ["b"], ["b_number"], to=INT32),
         node("Equal", ["a_number", "b_number"], ["s"]), node("Cast", ["s"], ["s_number"], to=INT32),
         node("Equal", ["s_number", "e"], ["s2"])],
        [], [value("s2", BOOL)], name="else",
    )
    nodes = [
        node("Cast", ["a"], ["a_number"], to=INT32),
        node("Cast", ["p"], ["p_number"], to=INT32),
        node("Cast", ["q"], ["q_number"], to=INT32),
        node("Equal", ["a_number", "p_number"], ["is_p"]),
        node("If", ["c"], ["y"], then_branch=then, else_branch=other),
    ]
    made = model(
        graph(nodes, [value("a", STRING, ["n"]), value("b", STRING, ["n"]), value("x", FLOAT, ["n"]), value("c", BOOL, [])],
              [value("is_p", BOOL, ["n"]), value("y", BOOL, ["n"])], [const("p", "p"), const("q", "q")])
    )

    def expect(a, b, x, c):
        return {"is_p": a == "p", "y": (a != "q") if c else (a == b) == x.astype(np.int32)}

    a, b, x = ["p", "q", ""], ["p", "p", ""], np.float32([1, 0, 0])
    cases = [{"a": a, "b": b, "x": x, "c": np.array(c)} for c in (True, False)]
    write("strings_in_branches", made, cases, "string comparisons in both branches of an If, with casts outside", expect)


def strings_in_loops():
    """A loop carries strings and compares them; a scan takes them one by one."""
    body = graph(
        [
            node("Identity", ["cond_in"], ["cond_out"]),
            node("Cast", ["carried"], ["n1"], to=INT32), node("Cast", ["b"], ["n2"], to=INT32),
            node("Equal", ["n1", "n2"], ["e"]),
            node("Equal", ["n1", "p_number"], ["is_p"]),
            node("Or", ["e", "is_p"], ["either"]),
            node("Identity", ["b"], ["carried_out"]),
        ],
        [value("i", INT64, []), value("cond_in", BOOL, []), value("carried", STRING)],
        [value("cond_out", BOOL, []), value("carried_out", STRING), value("either", BOOL)], name="body",
    )
    scan = graph(
        [node("Cast", ["s"], ["n1"], to=INT32), node("Equal", ["n1", "p_number"], ["is_p"]),
         node("Identity", ["state"], ["state_out"])],
        [value("state", FLOAT, []), value("s", STRING, [])], [value("state_out", FLOAT, []), value("is_p", BOOL, [])],
        name="scan",
    )
    nodes = [
        node("Cast", ["p"], ["p_number"], to=INT32),
        node("Loop", ["rounds", "yes", "a"], ["last", "matches"], body=body),
        node("Scan", ["zero", "a"], ["state_end", "scanned"], body=scan, num_scan_inputs=1),
    ]
    constants = [const("rounds", np.int64(2)), const("yes", np.array(True)), const("p", "p"), const("zero", np.float32(0))]
    made = model(
        graph(nodes, [value("a", STRING, ["n"]), value("b", STRING, ["n"])],
              [value("last", STRING, ["n"]), value("matches", BOOL, [2, "n"]), value("scanned", BOOL, ["n"])], constants)
    )

    def expect(a, b):
        both = [(a == b) | (a == "p"), (b == b) | (b == "p")]
        return {"last": b, "matches": np.stack(both).astype(bool), "scanned": (a == "p").astype(bool)}

    write("strings_in_loops", made, [{"a": ["p", "x", "y"], "b": ["z", "x", "p"]}],
          "string comparisons in the bodies of a loop and a scan", expect)


def strings_elsewhere():
    """In a function; with a cast that is returned as well; against what tf2onnx makes of an empty string."""
    function = helper.make_function(
        "local", "Same", ["l", "r"], ["same"],
        [node("Cast", ["l"], ["ln"], to=INT32), node("Cast", ["r"], ["rn"], to=INT32), node("Equal", ["ln", "rn"], ["same"])],
        [helper.make_opsetid("", 17)],
    )
    nodes = [
        helper.make_node("Same", ["a", "b"], ["same"], domain="local", name="call"),
        node("Cast", ["digits"], ["number"], to=INT32),
        node("Cast", ["b"], ["b_number"], to=INT32),
        node("Equal", ["number", "b_number"], ["is_b"]),
        node("Cast", ["a"], ["a_number"], to=INT32),
        node("Equal", ["a_number", "minus_one"], ["is_empty"]),
        node("Unsqueeze", ["a", "one"], ["column_of_a"]),
        node("Cast", ["column_of_a"], ["a_column"], to=INT32),
        node("Equal", ["a_column", "codes"], ["coded"]),
        node("Identity", ["a_number"], ["a_copy"]),
        node("Cast", ["a_copy"], ["a_wide"], to=INT64),
        node("Cast", ["b_number"], ["b_wide"], to=INT64),
        node("Equal", ["a_wide", "b_wide"], ["chained"]),
        node("Cast", ["more"], ["more_numbers"], to=INT32),
        node("Unsqueeze", ["a", "one"], ["column"]),
        node("Cast", ["column"], ["column_numbers"], to=INT32),
        node("Equal", ["column_numbers", "more_numbers"], ["table"]),
    ]
    constants = [const("codes", np.int32([5, 17])), const("minus_one", np.int32(-1)), const("more", ["x", "y", "5"]), const("one", np.int64([1]))]
    made = model(
        graph(nodes, [value(name, STRING, ["n"]) for name in ("a", "b", "digits")],
              [value(name, BOOL) for name in ("same", "is_b", "is_empty", "chained", "table", "coded")] + [value("number", INT32)], constants),
        functions=[function], imports=[helper.make_opsetid("local", 1)],
    )

    def expect(a, b, digits):
        return {
            "same": (a == b).astype(bool), "is_b": (digits == b).astype(bool), "is_empty": (a == "").astype(bool),
            "chained": (a == b).astype(bool),
            "table": np.array([[it == other for other in ("x", "y", "5")] for it in a]),
            "coded": np.array([[it == other for other in ("5", "17")] for it in a]),
            "number": digits.astype(np.int32),
        }

    write("strings_elsewhere", made, [{"a": ["", "x", "5"], "b": ["", "17", "y"], "digits": ["4", "17", "-3"]}],
          "string comparisons in a function, by shared, chained and folded casts", expect)


def reshapes():
    """Reshapes to shapes with the name that tf2onnx gives where it means a transpose."""
    nodes = [
        node("Reshape", ["x", "new_shape__1"], ["mixed"]),
        node("Reshape", ["one", "new_shape__2"], ["moved"]),
        node("Reshape", ["x", "new_shape__3"], ["mixed_back"]),
        node("Reshape", ["x", "new_shape__4"], ["same"]),
    ]
    shapes = [[-1, 5, 3, 4], [-1, 1, 3, 4], [-1, 4, 5, 3], [0, 3, 4, 5]]
    constants = [const(f"new_shape__{index + 1}", np.int64(it)) for index, it in enumerate(shapes)]
    made = model(
        graph(nodes, [value("x", FLOAT, ["n", 3, 4, 5]), value("one", FLOAT, ["n", 3, 4, 1])],
              [value(name, FLOAT) for name in ("mixed", "moved", "mixed_back", "same")], constants)
    )
    cases = [{"x": np.arange(n * 60, dtype=np.float32).reshape(n, 3, 4, 5),
              "one": np.arange(n * 12, dtype=np.float32).reshape(n, 3, 4, 1)} for n in (1, 2)]
    write("reshapes", made, cases, "reshapes that are no transposes, whatever their shapes are called")


def outputs_by_name():
    """Inner tensors of many operators, declared by name or by shape alone."""
    then = graph([node("Sin", ["x"], ["t"])], [], [by_name("t")], name="then")
    other = graph([node("Cos", ["x"], ["t"])], [], [by_name("t")], name="else")
    function = helper.make_function(
        "local", "Square", ["v"], ["v2"], [node("Mul", ["v", "v"], ["v2"])], [helper.make_opsetid("", 17)],
    )
    nodes = [
        node("If", ["c"], ["branch"], then_branch=then, else_branch=other),
        helper.make_node("Square", ["branch"], ["squared"], domain="local", name="call"),
        node("ArgMax", ["squared"], ["best"], axis=1, keepdims=0),
        node("Greater", ["squared", "x"], ["more"]),
        node("TopK", ["x", "k"], ["top", "places"]),
        node("Cast", ["x"], ["text"], to=STRING),
        node("Softmax", ["x"], ["probabilities"]),
        node("DynamicQuantizeLinear", ["x"], ["quantized", "scale", "zero_point"]),
        node("DequantizeLinear", ["quantized", "scale", "zero_point"], ["again"]),
        node("Cast", ["quantized"], ["quantized_number"], to=INT32),
        helper.make_node("FastGelu", ["x"], ["gelu"], domain="com.microsoft", name="contrib"),
    ]
    shaped = value("top", FLOAT, ["n", 1])
    shaped.type.tensor_type.ClearField("elem_type")
    names = ["branch", "squared", "best", "more", "places", "text", "probabilities", "scale", "again",
             "quantized_number", "gelu", "k", "x"]
    made = model(
        graph(nodes, [value("x", FLOAT, ["n", 3]), value("c", BOOL, [])], [by_name(name) for name in names] + [shaped],
              [const("k", np.int64([1]))]),
        functions=[function],
        imports=[helper.make_opsetid("local", 1), helper.make_opsetid("com.microsoft", 1)],
    )
    x = np.float32([[1, 2.5, -3], [0.5, 4, 2]])
    try:
        onnxruntime.InferenceSession(made.SerializeToString())
    except Exception as error:  # not needed if ONNX Runtime does not load it unedited
        print("outputs_by_name:", error)
        made.graph.output.remove(shaped)
    write("outputs_by_name", made, [{"x": x, "c": np.array(c)} for c in (True, False)],
          "outputs declared by name only, of many types")


def not_utf8():
    """Names, documentation and metadata with bytes that are not UTF-8. `~` stands for such a byte."""
    nodes = [
        helper.make_node("Neg", ["x~"], ["m~"], name="node~", doc_string="caf~"),
        helper.make_node("Exp", ["m~"], ["y~"], name="node~2"),
        helper.make_node("Add", ["y~", "w~"], ["sum"], name="plain"),
    ]
    made = model(
        graph(nodes, [value("x~", FLOAT, ["batch~", 3])], [value("y~", FLOAT, ["batch~", 3]), value("sum", FLOAT, ["batch~", 3])],
              [const("w~", np.float32([1, 2, 3]))], name="graph~")
    )
    made.doc_string = "d~"
    made.producer_name = "p~"
    entry = made.metadata_props.add()
    entry.key, entry.value = "author~", "Jos~"
    made.graph.doc_string = "g~"
    made.graph.input[0].doc_string = "i~"
    write("not_utf8", made, [{"x~": np.float32([[1, 2, 3]])}], "text that is not UTF-8 in all places; U+FFFD is served",
          edit=lambda data: data.replace(b"~", b"\xe9"), rename=lambda name: name.replace("~", "\ufffd"))


def mixed_function():
    """A function that divides is called with int16 and with int32."""
    function = helper.make_function(
        "local", "Ratio", ["l", "r"], ["q"], [node("Div", ["l", "r"], ["q"])], [helper.make_opsetid("", 17)],
    )
    nodes = [
        node("Cast", ["n"], ["narrow"], to=TensorProto.INT16),
        node("Cast", ["m"], ["narrow_m"], to=TensorProto.INT16),
        helper.make_node("Ratio", ["n", "m"], ["q32"], domain="local", name="wide_call"),
        helper.make_node("Ratio", ["narrow", "narrow_m"], ["q16"], domain="local", name="narrow_call"),
        node("Cast", ["q16"], ["q"], to=INT32),
        node("Div", ["n", "m"], ["direct"]),
    ]
    made = model(
        graph(nodes, [value("n", INT32, ["a"]), value("m", INT32, ["a"])],
              [value("q32", INT32, ["a"]), value("q", INT32, ["a"]), value("direct", INT32, ["a"])]),
        functions=[function], imports=[helper.make_opsetid("local", 1)],
    )
    write("mixed_function", made, [{"n": np.int32([7, -9, 12]), "m": np.int32([2, -1, 5])}],
          "a function that divides is called with integers of different types, one of which has no other kernels")


for make in (mixed_function, same_names_in_loops, taken_names, taken_names_of_weights, strings_in_branches, strings_in_loops,
             strings_elsewhere, reshapes, outputs_by_name, not_utf8):
    make()
index_file = HERE / "zoo.json"
index = json.loads(index_file.read_text()) if index_file.exists() else {}
index.update(INDEX)
index_file.write_text(json.dumps(index, indent=1) + "\n")
