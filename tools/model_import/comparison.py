"""Runs a converted graph and its original on the same inputs and says how far they are apart.

Not here: whether the graph loads (`runnable`), running the original (`imported.Signature`).
"""

import dataclasses

import numpy

from model_import.errors import ImportFailed

# Absolute, and relative to the expected value. Two libraries sum in different orders.
TOLERANCE = 1e-3
HALF_TOLERANCE = 2e-2
# The sizes to try for a dim of any size, in this order: the first dim, and the others. Not every model
# accepts every size.
SIZES = [(3, 7), (2, 32), (2, 64), (1, 224), (1, 1), (1, 16000)]
# Indices into tables of any size should exist.
LARGEST_INTEGER = [9, 1]
WORDS = ["", "a", "cat", "Dog", "the", "1", "2.5", "né"]


@dataclasses.dataclass
class Comparison:
    """How a comparison went."""

    text: str
    agrees: bool


def read_samples(path):
    """The arrays of an .npz file by name, or None."""
    if path is None:
        return None
    try:
        with numpy.load(path) as samples:
            return dict(samples)
    except (OSError, ValueError) as error:
        raise ImportFailed(f"--samples {path}: {error}") from error


def compare(signature, session, samples=None):
    """Runs both on `samples`, or on random inputs that the original takes."""
    inputs, expected, refusal = _first_accepted(signature, samples)
    if inputs is None:
        text = f"loads, but was NOT COMPARED: the model refuses the inputs: {refusal}"
        return Comparison(text, False)
    shapes = ", ".join(f"{alias}{list(value.shape)}" for alias, value in inputs.items())
    try:
        actual = _run_onnx(signature, session, inputs)
    except Exception as error:  # onnxruntime has a dozen classes without a common base
        line = str(error).strip().splitlines()[0]
        if signature.compares_strings and "Cast" in line:
            text = "loads; not compared, since the server mends how its strings are compared"
            return Comparison(text, True)
        return Comparison(f"ONNX Runtime fails on {shapes}: {line}", False)
    largest, worst, agrees = 0.0, None, True
    for alias, value in expected.items():
        difference, same = difference_of(value, actual[alias])
        agrees &= same
        if worst is None or difference > largest:
            largest, worst = difference, alias
    verdict = "agrees" if agrees else "DIFFERS"
    return Comparison(
        f"{verdict} on {shapes}: largest difference {largest:.3g} in '{worst}'", agrees
    )


def difference_of(expected, actual):
    """The largest absolute difference, infinite for another shape, and if it is small enough."""
    expected, actual = numpy.asarray(expected), numpy.asarray(actual)
    if expected.shape != actual.shape:
        return numpy.inf, False
    if expected.size == 0:
        return 0.0, True
    # TensorFlow's bfloat16 is of no kind that numpy knows.
    is_float = expected.dtype.kind in "fcV"
    if not is_float:
        expected = _as_strings(expected) if expected.dtype.kind in "OSU" else expected
        actual = _as_strings(actual) if actual.dtype.kind in "OSU" else actual
        same = bool(numpy.array_equal(expected, actual))
        return (0.0 if same else numpy.inf), same
    tolerance = HALF_TOLERANCE if expected.dtype.itemsize <= 2 else TOLERANCE
    wide = numpy.complex128 if expected.dtype.kind == "c" else numpy.float64
    expected, actual = expected.astype(wide), actual.astype(wide)
    equal = (expected == actual) | (numpy.isnan(expected) & numpy.isnan(actual))
    with numpy.errstate(invalid="ignore"):
        apart = numpy.where(equal, 0.0, numpy.abs(expected - actual))
        allowed = tolerance + tolerance * numpy.abs(expected)
    return float(numpy.max(apart)), bool(numpy.all(equal | (apart <= allowed)))


def _as_strings(array):
    """As bytes: originals give bytes, ONNX Runtime str."""
    return [
        value if isinstance(value, bytes) else str(value).encode() for value in array.ravel()
    ]


def _first_accepted(signature, samples):
    if samples is not None:
        missing = sorted(set(signature.inputs) - set(samples))
        if missing:
            raise ImportFailed(
                f"--samples has no {', '.join(missing)} for signature '{signature.name}'"
            )
        candidates = [{alias: samples[alias] for alias in signature.inputs}]
    else:
        candidates = (
            _random_inputs(signature, sizes, largest)
            for sizes in SIZES
            for largest in LARGEST_INTEGER
        )
    refusal = None
    for inputs in candidates:
        try:
            return inputs, signature.run_original(inputs), None
        except ImportFailed:
            raise
        except Exception as error:  # the model's library can raise anything
            refusal = str(error).strip().splitlines()[0] if str(error) else repr(error)
    return None, None, refusal


def _random_inputs(signature, sizes, largest):
    random = numpy.random.default_rng(20)
    return {
        alias: _random_array(random, tensor, sizes, largest)
        for alias, tensor in signature.inputs.items()
    }


def _random_array(random, tensor, sizes, largest):
    first, other = sizes
    # A vector will do where any rank does.
    dims = (None,) if tensor.shape is None else tensor.shape
    shape = [
        size if size is not None else (first if index == 0 else other)
        for index, size in enumerate(dims)
    ]
    dtype = numpy.dtype(tensor.dtype)
    if dtype.kind == "O":
        return random.choice(numpy.array(WORDS, dtype=object), size=shape)
    if dtype.kind == "b":
        return random.random(shape) < 0.5
    if dtype.kind in "iu":
        return random.integers(0, largest, size=shape, endpoint=True).astype(dtype)
    return numpy.asarray(random.random(shape)).astype(dtype)


def _run_onnx(signature, session, inputs):
    # An input that no output needs is not an input of the graph.
    graph_inputs = {value.name: value for value in session.get_inputs()}
    feeds = {}
    for alias, tensor in signature.inputs.items():
        if tensor.graph_name in graph_inputs:
            value = numpy.asarray(inputs[alias])
            # As the server casts.
            narrower = {"tensor(float16)": numpy.float16, "tensor(float)": numpy.float32}
            graph_dtype = narrower.get(graph_inputs[tensor.graph_name].type)
            if graph_dtype and value.dtype.kind in "fV":
                value = value.astype(graph_dtype)
            feeds[tensor.graph_name] = value
    names = sorted({tensor.graph_name for tensor in signature.outputs.values()})
    passed = {
        signature.inputs[alias].graph_name: inputs[alias] for alias in signature.inputs
    }
    computed = [name for name in names if name not in passed]
    by_name = dict(zip(computed, session.run(computed, feeds) if computed else []))
    by_name.update({name: value for name, value in passed.items() if name in names})
    return {alias: by_name[tensor.graph_name] for alias, tensor in signature.outputs.items()}
