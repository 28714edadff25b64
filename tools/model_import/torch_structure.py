"""What a PyTorch model takes and returns: arguments by keyword, dicts and tuples, taken apart.

Not here: types and arrays (`torch_values`), the export (`torch_model`).
"""

import dataclasses

from model_import.errors import ImportFailed


@dataclasses.dataclass
class Leaf:
    """One value that a model returns, or takes."""

    # `past.0`: the keys, attributes and positions that lead to it; empty for the only value.
    path: tuple
    # False if it is not a tensor.
    is_tensor: bool
    # The value, if it is not a tensor.
    constant: object = None


def output_leaves(torch, results):
    """The values that a model returned, in the exporter's order."""
    from torch.utils import _pytree as pytree

    return [
        Leaf(path, isinstance(value, torch.Tensor), value)
        for path, value in _leaves_with_paths(pytree, results)
    ]


def program_leaves(program):
    """The same from an exported program, which is not run."""
    from torch.utils import _pytree as pytree

    arguments = [spec.arg for spec in program.graph_signature.output_specs if _is_output(spec)]
    spec = program.call_spec.out_spec
    try:
        numbered = pytree.tree_unflatten(list(range(spec.num_leaves)), spec)
        paths = [path for path, _ in _leaves_with_paths(pytree, numbered)]
    except Exception:  # a type of its own, which is not registered here
        paths = [(str(index),) for index in range(len(arguments))]
    return [
        Leaf(path, not hasattr(argument, "value"), getattr(argument, "value", None))
        for path, argument in zip(paths, arguments, strict=True)
    ]


def tensors_of(torch, results):
    """The tensors that a model returned, in the exporter's order."""
    return [leaf.constant for leaf in output_leaves(torch, results) if leaf.is_tensor]


def aliases_of(leaves):
    """A name for each tensor that has one in a dict or a named tuple; None for others."""
    for leaf in leaves:
        if not leaf.is_tensor and leaf.constant is not None:
            kind = type(leaf.constant).__name__
            raise ImportFailed(
                f"the model returns {'_'.join(leaf.path) or 'a value'} as {kind}, and only tensors can "
                "be served: return it as a tensor, or not at all"
            )
        if not leaf.is_tensor:
            print(f"note: the output {'_'.join(leaf.path)} is None, and not served")
    paths = [leaf.path for leaf in leaves if leaf.is_tensor]
    named = [_named(path) for path in paths]
    if len(set(filter(None, named))) < len([it for it in named if it]):
        named = ["_".join(path) for path in paths]
    return named


def _named(path):
    """`a_0` of `a`, 0; None of 0: a position alone is not a name."""
    if all(part.isdigit() for part in path):
        return None
    while path[0].isdigit():
        path = path[1:]
    return "_".join(path)


def _leaves_with_paths(pytree, value):
    try:
        leaves = pytree.tree_leaves_with_path(value)
    except Exception:  # a type of its own, registered without names
        leaves = [
            ((pytree.SequenceKey(index),), leaf)
            for index, leaf in enumerate(pytree.tree_leaves(value))
        ]
    return [(tuple(map(_part, path)), leaf) for path, leaf in leaves]


def _part(key):
    for attribute in ("key", "name", "idx"):
        if hasattr(key, attribute):
            return str(getattr(key, attribute))
    return str(key)


def _is_output(spec):
    return spec.kind.name == "USER_OUTPUT"


@dataclasses.dataclass
class Arguments:
    """How a model is called with tensors by name."""

    # Names of tensors, and values that never change, in the order of `spec`.
    leaves: list
    # How they make up positional and keyword arguments.
    spec: object

    def call(self, model, tensors):
        """Runs `model` on `tensors`, by name."""
        from torch.utils import _pytree as pytree

        values = [
            tensors[leaf.name] if isinstance(leaf, Name) else leaf for leaf in self.leaves
        ]
        positional, by_keyword = pytree.tree_unflatten(values, self.spec)
        return model(*positional, **by_keyword)


@dataclasses.dataclass(frozen=True)
class Name:
    """Stands in for a tensor."""

    name: str


def program_arguments(program, names):
    """The arguments of an exported program, whose tensors get these names, in their order."""
    names = iter(names)
    leaves = [
        argument.value if hasattr(argument, "value") else Name(next(names))
        for argument in input_arguments(program)
    ]
    return Arguments(leaves, program.call_spec.in_spec)


def input_arguments(program):
    """What callers of an exported program pass: tensors, and constants, which have a `value`."""
    specs = program.graph_signature.input_specs
    return [spec.arg for spec in specs if spec.kind.name == "USER_INPUT"]
