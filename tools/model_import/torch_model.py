"""PyTorch models as ONNX, by torch.onnx.export: one signature, `serving_default`.

PyTorch has no signatures: aliases are the names of the arguments of `forward` and the keys of what it
returns, or those given; they become the names of the graph's inputs and outputs, from which the
server derives its signature.

Not here: what is inside of arguments and results (`torch_structure`), writing the files (`version_directory`), whether they run (`runnable`, `comparison`).
"""

import dataclasses
import importlib
import logging
import os
import pathlib
import re
import sys
from collections.abc import Callable

import numpy

from model_import import torch_structure, torch_values
from model_import.errors import ImportFailed
from model_import.imported import Imported, Signature, Tensor
from model_import.rewrite import graphs_of, rename_tensors, separate_outputs, widen_bfloat16
from model_import.runnable import LARGEST_PROTOBUF
from model_import.torch_binding import bindings, by_name

SIGNATURE = "serving_default"
# ALIAS, ALIAS:DTYPE or ALIAS:DTYPE[DIMS].
INPUT = re.compile(r"(?P<alias>[^:\[\]]+)(:(?P<dtype>\w+)(\[(?P<dims>[^\]]*)\])?)?")
# Used for a dim of any size while the model is traced, because 0 and 1 would be taken as fixed.
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
    if pathlib.Path(source).is_file():
        exported, call = _program(torch, source, inputs)
        positional, by_keyword, dynamic = (), None, None
    else:
        exported, call, positional, by_keyword, dynamic = _module(torch, source, inputs)
    file = scratch / "model.onnx"
    try:
        with torch.no_grad():
            torch.onnx.export(
                exported,
                positional,
                str(file),
                kwargs=by_keyword,
                dynamic_shapes=dynamic,
                dynamo=True,
                external_data=False,
                verbose=False,
            )
    except Exception as error:  # the exporter's errors have no common base
        raise ImportFailed(f"torch.onnx does not export {source}: {error}") from error
    return Imported([_signature(torch, call, file, output_aliases)])


@dataclasses.dataclass
class Call:
    """A model as clients call it."""

    inputs: dict[str, Tensor]
    # Runs it on torch's tensors by alias.
    run: Callable[[dict], object]
    # A name for each output, or None.
    outputs: list
    # The inputs that `**kwargs` takes.
    extra: list = dataclasses.field(default_factory=list)


def _program(torch, source, inputs):
    program = _load_program(source)
    tensors = _program_inputs(torch, program, inputs)
    model = program.module()
    arguments = torch_structure.program_arguments(program, tensors)
    outputs = torch_structure.aliases_of(torch_structure.program_leaves(program))
    return program, Call(tensors, lambda values: arguments.call(model, values), outputs)


def _module(torch, source, inputs):
    model = _load_module(source)
    tensors = _declared_inputs(inputs)
    examples = {alias: _example(torch, tensor) for alias, tensor in tensors.items()}
    binding, results = _first_that_runs(torch, source, model, examples)
    tensors = {alias: tensors[alias] for alias in binding.aliases()}

    def run(values):
        positional, by_keyword = binding.arguments(values)
        return model(*positional, **by_keyword)

    outputs = torch_structure.aliases_of(torch_structure.output_leaves(torch, results))
    positional, by_keyword = binding.arguments(examples)
    return (
        model,
        Call(tensors, run, outputs, binding.extra),
        positional,
        by_keyword or None,
        _dynamic_shapes(binding, tensors),
    )


def _first_that_runs(torch, source, model, examples):
    """The way to call the model with these inputs, and its results."""
    refusals = []
    for binding in bindings(model.forward, list(examples)):
        positional, by_keyword = binding.arguments(examples)
        try:
            with torch.no_grad():
                return binding, model(*positional, **by_keyword)
        except Exception as error:  # the model can raise anything
            refusals.append(error)
    shapes = ", ".join(f"{alias}{list(it.shape)}" for alias, it in examples.items())
    texts = "; ".join(str(refusal) or repr(refusal) for refusal in refusals)
    raise ImportFailed(f"{source} does not run on zeros of {shapes}: {texts}") from refusals[-1]


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
    except Exception as error:  # torch can raise anything for a broken file
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
    _check_distinct(given.alias for given in inputs)
    tensors = {}
    for given in inputs:
        if given.dtype is None or given.dims is None:
            raise ImportFailed(
                f"--input {given.alias}: its type is missing, such as float32[?,3,224,224]"
            )
        try:
            is_bfloat16 = given.dtype == "bfloat16"
            dtype = torch_values.bfloat16() if is_bfloat16 else numpy.dtype(given.dtype)
        except TypeError as error:
            raise ImportFailed(f"--input {given.alias}: {error}") from error
        if dtype.kind in "OSUMm":
            raise ImportFailed(f"--input {given.alias}: PyTorch has no tensors of {given.dtype}")
        tensors[given.alias] = Tensor(given.alias, dtype, tuple(given.dims))
    return tensors


def _program_inputs(torch, program, inputs):
    """The inputs of a .pt2 file, under the aliases given or their own names."""
    arguments = torch_structure.input_arguments(program)
    names = [argument.name for argument in arguments if not hasattr(argument, "value")]
    values = {
        node.name: node.meta["val"] for node in program.graph.nodes if node.op == "placeholder"
    }
    _check_distinct(given.alias for given in inputs)
    aliases = by_name("--input", [given.alias for given in inputs], names) if inputs else names
    declared = {given.alias: given for given in inputs}
    tensors = {}
    for name, alias in zip(names, aliases, strict=True):
        value = values.get(name)
        if not isinstance(value, torch.Tensor):
            raise ImportFailed(f"the model's input {name} is not a tensor")
        shape = tuple(dim if isinstance(dim, int) else None for dim in value.shape)
        dtype = torch_values.numpy_dtype(torch, value.dtype, f"the model's input {name}")
        tensors[alias] = Tensor(alias, dtype, shape)
        _check_type(declared.get(alias), name, tensors[alias])
    return tensors


def _check_distinct(aliases):
    aliases = list(aliases)
    if len(set(aliases)) < len(aliases):
        raise ImportFailed(f"--input: two inputs have one alias: {', '.join(aliases)}")


def _check_type(given, name, tensor):
    """Refuses what an `--input` says of a .pt2 file's input, if the file says otherwise."""
    if given is None:
        return
    dims = list(tensor.shape)
    has_other_dtype = given.dtype not in (None, tensor.dtype.name)
    if has_other_dtype or given.dims not in (None, dims):
        sizes = ",".join("?" if dim is None else str(dim) for dim in dims)
        raise ImportFailed(
            f"--input {given.alias}: the model was exported with the input {name} of "
            f"{tensor.dtype.name}[{sizes}]. Leave the type out, or export the model for another"
        )


def _dynamic_shapes(binding, tensors):
    """As torch.export takes them: by parameter."""
    import torch

    dims = {
        alias: {
            axis: torch.export.Dim.DYNAMIC
            for axis, dim in enumerate(tensor.shape)
            if dim is None
        }
        for alias, tensor in tensors.items()
    }
    return binding.by_parameter(dims)


def _example(torch, tensor):
    sizes = iter(TRACED_SIZES)
    shape = [next(sizes, 17) if dim is None else dim for dim in tensor.shape]
    return torch_values.to_torch(torch, numpy.zeros(shape, tensor.dtype), tensor.dtype)


def _signature(torch, call, file, output_aliases):
    import onnx

    if file.stat().st_size > LARGEST_PROTOBUF:
        raise ImportFailed(
            "the model has more than 2 GB of weights: export it with torch.onnx.export(..., "
            "external_data=True) into the version directory"
        )
    graph = onnx.load(file)
    separate_outputs(graph)
    outputs = _rename(graph, call, output_aliases)
    for value in graph.graph.output:
        if value.type.tensor_type.elem_type == onnx.TensorProto.BFLOAT16:
            tensor = next(it for it in outputs.values() if it.graph_name == value.name)
            tensor.dtype = torch_values.bfloat16()
    widen_bfloat16(graph)

    def run_original(arrays):
        with torch.no_grad():
            results = call.run(
                {
                    alias: torch_values.to_torch(torch, arrays[alias], tensor.dtype)
                    for alias, tensor in call.inputs.items()
                }
            )
        results = torch_structure.tensors_of(torch, results)
        if len(results) != len(outputs):
            raise ImportFailed(
                f"the model returned {len(results)} tensors, the graph has {len(outputs)} outputs"
            )
        return {
            alias: torch_values.to_numpy(torch, value, f"the model's output {alias}")
            for alias, value in zip(outputs, results)
        }

    return Signature(SIGNATURE, graph, call.inputs, outputs, run_original)


def _rename(graph, call, output_aliases):
    """Names the graph's inputs and outputs, which are in the model's order; returns the outputs."""
    inputs = list(call.inputs)
    _check_aliases("input", graph.graph.input, inputs)
    _check_extra(graph, call, inputs)
    in_graph = [it.name for it in graph.graph.output]
    named = call.outputs if len(call.outputs) == len(in_graph) else [None] * len(in_graph)
    aliases = [alias or name for alias, name in zip(named, in_graph)]
    if output_aliases:
        known = [own if own in (given, *output_aliases) else given for given, own in zip(named, aliases)]
        aliases = by_name("--output_alias", output_aliases, known)
    _check_aliases("output", graph.graph.output, aliases)
    taken = set(inputs)
    graph_names = []
    for alias in aliases:
        name = alias
        # In clients' requests an input and an output can have the same name, in ONNX they cannot.
        while name in taken:
            name += "_out"
        taken.add(name)
        graph_names.append(name)
    values = [*graph.graph.input, *graph.graph.output]
    names = [*inputs, *graph_names]
    rename_tensors(graph, {value.name: name for value, name in zip(values, names)})
    return {alias: Tensor(name, None, None) for alias, name in zip(aliases, graph_names)}


def _check_extra(graph, call, inputs):
    """Refuses inputs that `**kwargs` took and the model ignores, such as a misspelt name."""
    read = {name for part in graphs_of(graph.graph) for node in part.node for name in node.input}
    read |= {value.name for value in graph.graph.output}
    for value, alias in zip(graph.graph.input, inputs):
        if alias in call.extra and value.name not in read:
            raise ImportFailed(
                f"--input {alias}: forward has no argument of that name, takes it among others "
                "(`**`), and does not use it: correct the name, or leave the input out"
            )


def _check_aliases(side, values, aliases):
    if len(values) != len(aliases) or len(set(aliases)) < len(aliases):
        has = ", ".join(value.name for value in values)
        raise ImportFailed(f"the model has {len(values)} {side}s ({has}), not these: {aliases}")
