"""PyTorch models as ONNX, by torch.onnx.export: one signature, `serving_default`.

PyTorch has no signatures: aliases are the names of the arguments of `forward`, or those given; they
become the names of the graph's inputs and outputs, from which the server derives its signature.

Not here: writing the files (`version_directory`), whether they run (`runnable`, `comparison`).
"""

import dataclasses
import importlib
import logging
import os
import re
import sys

import numpy

from model_import.errors import ImportFailed
from model_import.imported import Imported, Signature, Tensor
from model_import.rewrite import rename_tensors
from model_import.runnable import LARGEST_PROTOBUF

SIGNATURE = "serving_default"
# ALIAS, ALIAS:DTYPE or ALIAS:DTYPE[DIMS].
INPUT = re.compile(r"(?P<alias>[^:\[\]]+)(:(?P<dtype>\w+)(\[(?P<dims>[^\]]*)\])?)?")
# Stands in for a dim of any size while the model is traced: 0 and 1 would be taken as fixed.
TRACED_SIZES = (2, 3, 5, 7, 11, 13)


@dataclasses.dataclass
class Input:
    """An input as the command line gives it."""

    alias: str
    dtype: str | None
    dims: list | None


def from_torch(source, inputs, output_aliases, scratch):
    """Converts a .pt2 file, or the model that `module:name` gives."""
    logging.disable(logging.WARNING)
    import torch

    inputs = [parse_input(text) for text in inputs]
    if source.endswith(".pt2"):
        program = _load_program(source)
        model = program.module()
        tensors = _program_inputs(program, inputs)
        exported, dynamic = program, None
    else:
        model = _load_module(source)
        tensors = _declared_inputs(inputs)
        exported, dynamic = model, _dynamic_shapes(tensors)
    file = scratch / "model.onnx"
    examples = tuple(_example(torch, tensor) for tensor in tensors.values())
    try:
        with torch.no_grad():
            torch.onnx.export(
                exported,
                () if dynamic is None else examples,
                str(file),
                dynamic_shapes=dynamic,
                dynamo=True,
                external_data=False,
                verbose=False,
            )
    except Exception as error:  # the exporter's errors have no common base
        raise ImportFailed(f"torch.onnx does not export {source}: {error}") from error
    return Imported([_signature(torch, model, file, tensors, output_aliases)])


def parse_input(text):
    """`image:float32[?,3,224,224]`; dtype and dims may be missing."""
    match = INPUT.fullmatch(text)
    if not match:
        raise ImportFailed(f"--input {text}: not of the form ALIAS:DTYPE[DIMS]")
    dims = match["dims"]
    if dims is not None:
        try:
            dims = [
                None if dim.strip() == "?" else int(dim) for dim in dims.split(",") if dim.strip()
            ]
        except ValueError as error:
            raise ImportFailed(f"--input {text}: a dim is a number or ?") from error
    return Input(match["alias"], match["dtype"], dims)


def _load_program(source):
    import torch

    try:
        return torch.export.load(source)
    except Exception as error:  # torch raises whatever the file makes it
        raise ImportFailed(f"torch.export does not load {source}: {error}") from error


def _load_module(source):
    import torch

    module, colon, name = source.partition(":")
    if not colon:
        raise ImportFailed(f"{source} is neither a .pt2 file nor MODULE:NAME")
    sys.path.insert(0, os.getcwd())
    try:
        model = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise ImportFailed(f"{source}: {error}") from error
    if not isinstance(model, torch.nn.Module):
        model = model()
    if not isinstance(model, torch.nn.Module):
        raise ImportFailed(f"{source} is not, and does not return, an nn.Module")
    return model.eval()


def _declared_inputs(inputs):
    if not inputs:
        raise ImportFailed("a model from a Python module needs --input for each of its arguments")
    tensors = {}
    for given in inputs:
        if given.dtype is None or given.dims is None:
            raise ImportFailed(
                f"--input {given.alias}: its type is missing, such as float32[?,3,224,224]"
            )
        try:
            dtype = numpy.dtype(given.dtype)
        except TypeError as error:
            raise ImportFailed(f"--input {given.alias}: {error}") from error
        tensors[given.alias] = Tensor(given.alias, dtype, tuple(given.dims))
    return tensors


def _program_inputs(program, inputs):
    """The inputs of a .pt2 file, under the aliases given or their own names."""
    import torch

    names = list(program.graph_signature.user_inputs)
    values = {
        node.name: node.meta["val"] for node in program.graph.nodes if node.op == "placeholder"
    }
    if inputs and len(inputs) != len(names):
        raise ImportFailed(f"the model has {len(names)} inputs ({', '.join(map(str, names))})")
    tensors = {}
    for index, name in enumerate(names):
        value = values.get(name)
        if not isinstance(value, torch.Tensor):
            raise ImportFailed(f"the model's input {name} is not a tensor")
        alias = inputs[index].alias if inputs else name
        shape = tuple(dim if isinstance(dim, int) else None for dim in value.shape)
        dtype = torch.empty(0, dtype=value.dtype).numpy().dtype
        tensors[alias] = Tensor(alias, dtype, shape)
    return tensors


def _dynamic_shapes(tensors):
    import torch

    return tuple(
        {
            axis: torch.export.Dim.DYNAMIC
            for axis, dim in enumerate(tensor.shape)
            if dim is None
        }
        for tensor in tensors.values()
    )


def _example(torch, tensor):
    sizes = iter(TRACED_SIZES)
    shape = [next(sizes, 17) if dim is None else dim for dim in tensor.shape]
    return torch.from_numpy(numpy.zeros(shape, tensor.dtype))


def _signature(torch, model, file, inputs, output_aliases):
    import onnx

    if file.stat().st_size > LARGEST_PROTOBUF:
        raise ImportFailed(
            "the model has more than 2 GB of weights: export it with torch.onnx.export(..., "
            "external_data=True) into the version directory"
        )
    graph = onnx.load(file)
    _rename(graph, list(inputs), output_aliases)
    outputs = {value.name: Tensor(value.name, None, None) for value in graph.graph.output}

    def run_original(arrays):
        with torch.no_grad():
            results = model(*(torch.from_numpy(numpy.asarray(arrays[it])) for it in inputs))
        results = _flat(results)
        return {alias: value.numpy() for alias, value in zip(outputs, results, strict=True)}

    return Signature(SIGNATURE, graph, inputs, outputs, run_original)


def _rename(graph, inputs, outputs):
    """Names the graph's inputs and outputs, which are in the model's order."""
    names = {}
    for side, values, aliases in (
        ("input", graph.graph.input, inputs),
        ("output", graph.graph.output, outputs or [it.name for it in graph.graph.output]),
    ):
        if len(values) != len(aliases) or len(set(aliases)) < len(aliases):
            has = ", ".join(value.name for value in values)
            raise ImportFailed(f"the model has {len(values)} {side}s ({has}), not these: {aliases}")
        names.update({value.name: alias for value, alias in zip(values, aliases)})
    if len(set(names.values())) < len(names):
        raise ImportFailed("an input and an output have one name: give others with --output_alias")
    rename_tensors(graph, names)


def _flat(results):
    """Tensors in the exporter's order: nested tuples, lists and dicts taken apart."""
    if isinstance(results, dict):
        results = list(results.values())
    if isinstance(results, (tuple, list)):
        return [tensor for result in results for tensor in _flat(result)]
    return [results]
