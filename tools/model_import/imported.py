"""What a converter hands on: a model's signatures as ONNX, each with its original to compare with.

Not here: making them (`saved_model`, `torch_model`), writing them (`version_directory`).
"""

import dataclasses
import pathlib
from collections.abc import Callable

import onnx


@dataclasses.dataclass
class Tensor:
    """An input or an output of a signature."""

    # Its name in the graph.
    graph_name: str
    # A numpy dtype; object for strings.
    dtype: object
    # None for a dim of any size; None as a whole if the rank is unknown.
    shape: tuple | None


@dataclasses.dataclass
class Signature:
    """One way to call the model."""

    name: str
    # With all its weights inside.
    graph: onnx.ModelProto
    # By alias.
    inputs: dict[str, Tensor]
    outputs: dict[str, Tensor]
    # Arrays by alias to arrays by alias.
    run_original: Callable[[dict], dict]
    # tf2onnx converts strings to numbers to compare them, which fails; the server repairs that.
    compares_strings: bool = False
    # ("input" or "output", alias) for each that the SavedModel does not have.
    renamed: set = dataclasses.field(default_factory=set)


@dataclasses.dataclass
class Imported:
    """A whole model."""

    signatures: list[Signature]
    # The SavedModel that was imported, if there is one, for signatures and warmup requests.
    saved_model: pathlib.Path | None = None
