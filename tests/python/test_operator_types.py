"""The table of element types in `crates/onnx/src/known/rules/operator_types.txt` is that of the schemas.

A Rust test compares the rules for element types with this table. `python tests/python/test_operator_types.py`
writes it anew from the schemas of the installed onnx and onnxruntime.

Not here: the rules themselves (`crates/onnx/src/known/rules/types.rs`).
"""

import pathlib
import re

import onnx.defs
from onnxruntime.capi import onnxruntime_pybind11_state as runtime

PROJECT = pathlib.Path(__file__).parents[2]
TABLE = PROJECT / "crates/onnx/src/known/rules/operator_types.txt"
HEADER = """\
# The element types of the outputs of operators, from the schemas of onnx and onnxruntime, written by
# tests/python/test_operator_types.py. Each line: domain, operator, the version from which it applies, output;
# then the inputs that have the output's type, `is` for a type of its own, `open` if an attribute or a graph
# sets it; then some of the types, the wide integers first.
"""
FIRST_TYPES = ["int64", "int32", "float"]
# The schemas of these domains are for hardware that the server does not use, or are those of onnx.
LEFT_OUT = ["", "ai.onnx.ml", "com.ms.internal.nhwc"]


def schemas():
    """Domain, name, version, types of the inputs, types of the outputs, allowed types by name."""
    for it in onnx.defs.get_all_schemas_with_history():
        allowed = {a.type_param_str: list(a.allowed_type_strs) for a in it.type_constraints}
        inputs, outputs = [i.type_str for i in it.inputs], [o.type_str for o in it.outputs]
        yield it.domain or "ai.onnx", it.name, it.since_version, inputs, outputs, allowed
    for it in runtime.get_all_operator_schema():
        if it.domain in LEFT_OUT:
            continue
        allowed = {a.type_param_str: list(a.allowed_type_strs) for a in it.type_constraints}
        inputs, outputs = [i.typeStr for i in it.inputs], [o.typeStr for o in it.outputs]
        yield it.domain, it.name, it.since_version, inputs, outputs, allowed


def some(types):
    """A few of the element types, the wide integers first."""
    found = {match for it in types for match in re.findall(r"tensor\((\w+)\)", it)}
    first = [it for it in FIRST_TYPES if it in found]
    return first + sorted(found - set(first))[: 3 - len(first)]


def rule(output, inputs, allowed):
    types = allowed.get(output, [output])
    same = [str(index) for index, it in enumerate(inputs) if it == output and it in allowed]
    if same:
        return " ".join([",".join(same), *some(types)])
    return " ".join(["is" if len(some(types)) == 1 else "open", *some(types)])


def table():
    lines, latest = [], {}
    for domain, name, since, inputs, outputs, allowed in sorted(schemas(), key=lambda it: it[:3]):
        for index, output in enumerate(outputs):
            new = rule(output, inputs, allowed)
            if latest.get((domain, name, index)) != new:
                lines.append(f"{domain} {name} {since} {index}: {new}")
            latest[domain, name, index] = new
    return HEADER + "\n".join(lines) + "\n"


def test_table_is_that_of_the_schemas():
    assert TABLE.read_text() == table()


if __name__ == "__main__":
    TABLE.write_text(table())
