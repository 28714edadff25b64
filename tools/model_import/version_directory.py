"""Writes a version directory: ONNX files, saved_model.pb without weights, warmup requests.

The directory appears at once: a server that watches the base path never sees half of it.

Not here: what is inside (`saved_model`, `torch_model`), whether it is right (`comparison`).
"""

import hashlib
import json
import os
import pathlib
import re
import shutil
import tempfile

import numpy
import onnx

from model_import.errors import ImportFailed
from model_import.strip import strip_saved_model

SAVED_MODEL_FILE = "saved_model.pb"
SHARED_GRAPH_FILE = "model.onnx"
MAP_FILE = "signature_map.pbtxt"
EXTRA_ASSETS = "assets.extra"


def check_output(output, in_place_of):
    """Raises ImportFailed if `output` cannot become a version directory."""
    if not output.name.isdigit():
        print(f"note: {output.name} is no version number; servers load <base path>/<number>")
    if in_place_of is not None and output.exists() and output.samefile(in_place_of):
        return
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise ImportFailed(f"{output} exists already; give another version")


def write_version(imported, output):
    """Writes `imported` into the directory `output` and returns the files' names."""
    source = imported.saved_model
    in_place = source is not None and output.exists() and output.samefile(source)
    parent = output if in_place else output.absolute().parent
    parent.mkdir(parents=True, exist_ok=True)
    # Hidden, and not a number: servers do not take it for a version.
    staging = pathlib.Path(tempfile.mkdtemp(prefix=".import-", dir=parent))
    try:
        os.chmod(staging, 0o755)
        _write_graphs(imported.signatures, staging)
        _write_map(imported, staging)
        if not in_place and source is not None:
            contents = (source / SAVED_MODEL_FILE).read_bytes()
            (staging / SAVED_MODEL_FILE).write_bytes(strip_saved_model(contents))
            if (source / EXTRA_ASSETS).is_dir():
                shutil.copytree(source / EXTRA_ASSETS, staging / EXTRA_ASSETS)
        files = sorted(str(path.relative_to(staging)) for path in _files(staging))
        if in_place:
            for file in sorted(files, key=lambda file: file.endswith(".onnx")):
                os.replace(staging / file, output / file)
        else:
            if output.exists():
                output.rmdir()
            os.replace(staging, output)
        return files
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def file_name(signature):
    """`<signature>.onnx`, cleaned as the server cleans it."""
    return re.sub(r"[^A-Za-z0-9._-]", "_", signature) + ".onnx"


def _write_graphs(signatures, folder):
    files = _graph_files(signatures)
    written = set()
    for signature in signatures:
        file = files[signature.name]
        if file in written:
            continue
        written.add(file)
        onnx.save(signature.graph, folder / file)


def _graph_files(signatures):
    """Each signature's file: one for those that compute the same, else its own."""
    if len(signatures) == 1:
        return {signatures[0].name: SHARED_GRAPH_FILE}
    by_graph = {}
    for signature in signatures:
        by_graph.setdefault(_canonical(signature), []).append(signature)
    shared = max(by_graph.values(), key=len)
    files = {signature.name: file_name(signature.name) for signature in signatures}
    if len(shared) > 1:
        files.update({signature.name: SHARED_GRAPH_FILE for signature in shared})
    own = [file for file in files.values() if file != SHARED_GRAPH_FILE]
    if len(own) > len(set(own)) or SHARED_GRAPH_FILE in (file_name(it.name) for it in signatures):
        names = ", ".join(sorted(files))
        raise ImportFailed(f"the names of these signatures come to the same file: {names}")
    return files


def _canonical(signature):
    """The same for graphs that compute the same and differ in inner names and order only."""
    graph = signature.graph.graph
    # A tensor's meaning is the computation that it results from.
    meaning = {value.name: b"input " + value.SerializeToString() for value in graph.input}
    meaning[""] = b"none"
    for weight in graph.initializer:
        copy = onnx.TensorProto()
        copy.CopyFrom(weight)
        copy.ClearField("name")
        meaning[weight.name] = _digest(copy.SerializeToString(deterministic=True))
    for node in graph.node:
        copy = onnx.NodeProto()
        copy.CopyFrom(node)
        for field in ("name", "doc_string", "input", "output"):
            copy.ClearField(field)
        attributes = sorted(copy.attribute, key=lambda attribute: attribute.name)
        del copy.attribute[:]
        copy.attribute.extend(attributes)
        # An unknown name, which no valid graph has, represents itself.
        read = [meaning.get(name, name.encode()) for name in node.input]
        digest = _digest(copy.SerializeToString(deterministic=True), *read)
        for index, name in enumerate(node.output):
            meaning[name] = _digest(digest, str(index).encode())
    values = [meaning[value.name] for value in graph.input]
    values += [_digest(value.name.encode(), meaning[value.name]) for value in graph.output]
    return tuple(sorted(values))


def _digest(*parts):
    digest = hashlib.sha256()
    for part in parts:
        digest.update(len(part).to_bytes(8, "little") + part)
    return digest.digest()


def _write_map(imported, folder):
    """Says where a graph's tensors have other names than their aliases."""
    text = []
    for signature in imported.signatures:
        is_derived = imported.saved_model is None

        def differs(alias, tensor):
            return tensor.graph_name != alias or (is_derived and _is_bfloat16(tensor))

        # Without an original, only outputs that a map lists are served.
        lists_outputs = is_derived and any(differs(*it) for it in signature.outputs.items())
        entries = []
        for side, tensors in (("input", signature.inputs), ("output", signature.outputs)):
            # An entry replaces the other aliases of its tensor unless they have entries, too.
            # A SavedModel has the earlier alias even if the new one is the tensor's name.
            new = {alias for it, alias in signature.renamed if it == side and not is_derived}
            listed = {
                it.graph_name for alias, it in tensors.items() if differs(alias, it) or alias in new
            }
            entries += [
                f"  {side} {{ alias: {json.dumps(alias, ensure_ascii=False)} "
                f"tensor: {json.dumps(tensor.graph_name, ensure_ascii=False)} "
                f"{'dtype: DT_BFLOAT16 ' if is_derived and _is_bfloat16(tensor) else ''}}}\n"
                for alias, tensor in tensors.items()
                if tensor.graph_name in listed or (lists_outputs and side == "output")
            ]
        if entries:
            name = json.dumps(signature.name, ensure_ascii=False)
            text += [f"signature {{\n  name: {name}\n", *entries, "}\n"]
    if text:
        (folder / MAP_FILE).write_text("".join(text), encoding="utf-8")


def _is_bfloat16(tensor):
    """The graph computes in float32 instead, and the server casts."""
    return tensor.dtype is not None and numpy.dtype(tensor.dtype).kind == "V"


def _files(folder):
    return [path for path in folder.rglob("*") if path.is_file()]
