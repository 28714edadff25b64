"""TensorFlow and Keras models: every signature of a SavedModel as ONNX, by tf2onnx.

A graph's inputs and outputs get their aliases as names, so that the server need not guess.

Not here: writing the files (`version_directory`), whether they run (`runnable`, `comparison`).
"""

import importlib
import json
import logging
import os
import re
import sys
import warnings
import zipfile

import numpy

from model_import.errors import ImportFailed
from model_import.imported import Imported, Signature, Tensor
from model_import.rewrite import clear_dim_names, rewrite_erfc, widen_bfloat16
from model_import.runnable import LARGEST_PROTOBUF, PARSES_EXAMPLES
from model_import.sources import KERAS_WEIGHTS

OTHER_WAY = (
    "Where it was trained, run `tf.saved_model.save(model, DIRECTORY)` and import that: "
    "`import_model.py saved_model DIRECTORY`"
)


def export_keras(file, scratch, allow_lambda=False, modules=()):
    """Exports a Keras model as TensorFlow Serving would get it, and returns the directory."""
    os.environ["KERAS_BACKEND"] = "tensorflow"
    _silence()
    import keras

    sys.path.insert(0, os.getcwd())
    for module in modules:
        try:
            importlib.import_module(module)
        except Exception as error:  # a module's code can raise anything
            raise ImportFailed(f"--import_module {module}: {error!r}") from error
    try:
        model = keras.models.load_model(
            _with_ending(file, scratch), compile=False, safe_mode=not allow_lambda
        )
    except Exception as error:  # Keras can raise anything for a broken file
        raise ImportFailed(_why_not_loaded(file, str(error))) from error
    directory = scratch / "export"
    try:
        model.export(str(directory), verbose=False)
    except Exception as error:  # likewise
        raise ImportFailed(f"Keras does not export {file} as a SavedModel: {error}") from error
    return directory


def _with_ending(file, scratch):
    """The same file under a name from which Keras knows its format."""
    with file.open("rb") as opened:
        ending = ".keras" if opened.read(2) == b"PK" else ".h5"
    if file.suffix == ending or (ending == ".h5" and file.suffix == ".hdf5"):
        return file
    link = scratch / f"model{ending}"
    link.symlink_to(file.absolute())
    return link


def _why_not_loaded(file, error):
    """Keras's error, with its advice to programs replaced by what this tool can be told."""
    if "safe_mode" in error or "enable_unsafe_deserialization" in error:
        return (
            f"{file} has a Lambda layer, whose Python code is in the file and can do anything. If you "
            "trust the file, run this again with --allow_lambda"
        )
    if "No model config found" in error:
        return f"{file} is {KERAS_WEIGHTS.text}; {KERAS_WEIGHTS.way_out}"
    unknown = re.search(r"(?:Could not locate \w+|Unknown \w+:?) '([^']*)'", error)
    if unknown and unknown[1].endswith("OpLambda"):
        return f"{file} was saved by Keras 2 with TensorFlow operations as layers. {OTHER_WAY}"
    if unknown:
        return (
            f"{file} has {unknown[1]}, which Keras does not know: name the Python module that defines "
            "it by --import_module, with the class or function decorated with "
            "@keras.saving.register_keras_serializable()"
        )
    import keras

    version = _keras_version(file)
    if version and version.partition(".")[0] in ("1", "2"):
        return (
            f"{file} was saved by Keras {version}, and Keras {keras.__version__} does not load it. "
            f"{OTHER_WAY}. Keras's error: {error}"
        )
    saved = f", which was saved by Keras {version}" if version else ""
    return f"Keras {keras.__version__} does not load {file}{saved}. Its error: {error}"


def _keras_version(file):
    """The version that saved the file; None if it does not say."""
    import h5py

    try:
        if zipfile.is_zipfile(file):
            with zipfile.ZipFile(file) as archive:
                return json.loads(archive.read("metadata.json")).get("keras_version")
        with h5py.File(file) as content:
            version = content.attrs.get("keras_version")
            return version.decode() if isinstance(version, bytes) else version
    except Exception:  # a broken file can raise anything, and the caller has its error
        return None


def from_saved_model(directory, tags, opset):
    """Converts every signature that clients can call."""
    if not (directory / "saved_model.pb").is_file():
        raise ImportFailed(f"{directory} is not a SavedModel: it has no saved_model.pb")
    _silence()
    import tensorflow

    try:
        loaded = tensorflow.saved_model.load(str(directory), tags=tags)
        # tf2onnx removes the tables from the model it converts, so the answers come from another copy.
        original = tensorflow.saved_model.load(str(directory), tags=tags)
    except Exception as error:  # TensorFlow's errors have no common base
        raise ImportFailed(f"TensorFlow does not load {directory}: {error}") from error
    names = sorted(name for name in loaded.signatures if not name.startswith("__saved_model_"))
    if not names:
        raise ImportFailed(
            f"{directory} has no signature that clients could call; save it with `signatures=`"
        )
    signatures = []
    for name in names:
        print(f"{name}: converting", flush=True)
        signatures.append(_convert(loaded, original.signatures[name], name, opset))
    return Imported(signatures, saved_model=directory)


def _convert(loaded, original, name, opset):
    import tensorflow

    function = loaded.signatures[name]
    inputs = _inputs(function)
    outputs = _outputs(function)
    graph_names = _graph_names(inputs, outputs)
    try:
        graph, compares_strings = _to_onnx(loaded, function, inputs, outputs, graph_names, opset)
    except Exception as error:  # tf2onnx can raise anything
        raise ImportFailed(f"tf2onnx does not convert signature '{name}': {error!r}") from error
    if graph.ByteSize() > LARGEST_PROTOBUF:
        raise ImportFailed(
            f"signature '{name}' has more than 2 GB of weights: convert it with "
            "`python3 -m tf2onnx.convert --large_model` and unpack what that writes"
        )

    def run_original(arrays):
        feeds = {
            alias: tensorflow.constant(value, inputs[alias].dtype)
            for alias, value in arrays.items()
        }
        return {alias: value.numpy() for alias, value in original(**feeds).items()}

    def described(tensors):
        return {
            alias: Tensor(graph_names[tensor.name], _numpy_dtype(tensor.dtype), _shape(tensor))
            for alias, tensor in tensors.items()
        }

    return Signature(
        name, graph, described(inputs), described(outputs), run_original, compares_strings
    )


def _inputs(function):
    """The tensors that clients feed, by alias: captured weights and tables come behind them."""
    # pylint: disable=protected-access
    aliases = function._arg_keywords
    return dict(zip(aliases, function.inputs[: len(aliases)]))


def _outputs(function):
    tensors = [tensor for tensor in function.outputs if tensor.dtype.name != "resource"]
    return dict(zip(sorted(function.structured_outputs), tensors))


def _graph_names(inputs, outputs):
    """What each tensor is to be called in the graph: its alias, as long as that is free."""
    names = {tensor.name: alias for alias, tensor in inputs.items()}
    taken = set(inputs)
    for alias, tensor in outputs.items():
        if tensor.name in names:
            continue
        name = alias
        # TensorFlow allows an input and an output of the same name, ONNX does not.
        while name in taken:
            name += "_out"
        taken.add(name)
        names[tensor.name] = name
    return names


def _to_onnx(loaded, function, inputs, outputs, graph_names, opset):
    import tensorflow
    from tf2onnx import convert, tf_loader

    fed = [tensor.name for tensor in inputs.values()]
    # The server itself passes an input through.
    fetched = list(dict.fromkeys(it.name for it in outputs.values() if it.name not in fed)) or fed
    tensorflow.compat.v1.reset_default_graph()
    with tensorflow.device("/cpu:0"):
        frozen, tables = tf_loader.from_trackable(loaded, function, fed, fetched, False)
        # pylint: disable=protected-access
        graph, _ = convert._convert_common(
            frozen,
            name="",
            # Nodes that it cannot convert stay in the graph, and `runnable` names them.
            continue_on_error=True,
            opset=opset,
            input_names=fed,
            output_names=fetched,
            tensors_to_rename=graph_names,
            initialized_tables=tables,
        )
    with tensorflow.Graph().as_default() as original:
        tensorflow.import_graph_def(frozen, name="")
    operations = original.get_operations()
    _declare_features(operations, graph)
    if any(map(_is_bfloat16, operations)):
        widen_bfloat16(graph, and_half=True)
    rewrite_erfc(graph)
    clear_dim_names(graph)
    return graph, any(map(_compares_strings, operations))


def _is_bfloat16(operation):
    return any(tensor.dtype.name == "bfloat16" for tensor in operation.outputs)


def _compares_strings(operation):
    return operation.type in ("Equal", "NotEqual") and operation.inputs[0].dtype.name == "string"


def _declare_features(operations, model):
    """Declares what is parsed out of examples: tf2onnx drops the types."""
    import onnx
    from tf2onnx import tf_utils

    read = {name for node in model.graph.node for name in node.input}
    declared = {value.name for value in model.graph.value_info}
    for operation in operations:
        if operation.type not in PARSES_EXAMPLES:
            continue
        for tensor in operation.outputs:
            if tensor.name in read - declared:
                dtype = tf_utils.map_tf_dtype(tensor.dtype)
                value = onnx.helper.make_tensor_value_info(tensor.name, dtype, _shape(tensor))
                model.graph.value_info.append(value)


def _numpy_dtype(dtype):
    return numpy.dtype(object) if dtype.name == "string" else numpy.dtype(dtype.as_numpy_dtype)


def _shape(tensor):
    return None if tensor.shape.rank is None else tuple(tensor.shape.as_list())


def _silence():
    """What these libraries say about themselves would bury what is said about the model."""
    warnings.filterwarnings("ignore")
    logging.disable(logging.ERROR)
