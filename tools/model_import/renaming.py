"""`--rename OLD=NEW`: gives inputs and outputs other aliases than the model's.

In the version directory of a SavedModel the signature map says so, and the server takes the new alias
in place of the old one; elsewhere the graph's tensors are renamed.
"""

from model_import.errors import ImportFailed
from model_import.rewrite import rename_tensors

SIDES = {"input": "inputs", "output": "outputs"}


def rename(imported, texts):
    """Renames what each of `texts` names, in every signature that has it."""
    # By signature and side, old aliases to new ones; applied together, so that two can be swapped.
    changes = {}
    for text in texts:
        old, equals, new = text.rpartition("=")
        if not (equals and old and new):
            raise ImportFailed(f"--rename {text}: not of the form OLD=NEW")
        for name, side, alias in _meant(imported.signatures, old, text):
            aliases = changes.setdefault((name, side), {})
            if aliases.setdefault(alias, new) != new:
                raise ImportFailed(f"--rename {text}: {alias} has been renamed already")
    for signature in imported.signatures:
        sides = {side: changes.get((signature.name, side), {}) for side in SIDES}
        if any(sides.values()):
            _apply(signature, sides, imported.saved_model is None)


def _meant(signatures, old, text):
    """Signature, side and alias of all that `old` may mean: in every signature, or in one."""
    found = []
    for signature in signatures:
        here = []
        for side, tensors in SIDES.items():
            for alias in getattr(signature, tensors):
                spellings = {alias, f"{side}:{alias}"}
                spellings |= {f"{signature.name}:{it}" for it in spellings}
                if old in spellings:
                    here.append((signature.name, side, alias))
        if len(here) > 1:
            sides = " or ".join(f"{side}:{alias}={text.rpartition('=')[2]}" for _, side, alias in here)
            raise ImportFailed(
                f"--rename {text}: signature '{signature.name}' has an input and an output of that "
                f"name: give {sides}"
            )
        found += here
    if not found:
        raise ImportFailed(f"--rename {text}: there is no input or output {old}. {_all(signatures)}")
    return found


def _all(signatures):
    return "; ".join(
        f"{signature.name} has the inputs {', '.join(signature.inputs) or 'none'} and the outputs "
        f"{', '.join(signature.outputs) or 'none'}"
        for signature in signatures
    )


def _apply(signature, sides, in_graph):
    for side, tensors in SIDES.items():
        old = getattr(signature, tensors)
        aliases = [sides[side].get(alias, alias) for alias in old]
        if len(set(aliases)) < len(aliases):
            raise ImportFailed(
                f"--rename: signature '{signature.name}' would have two {tensors} of one name: "
                + ", ".join(aliases)
            )
        setattr(signature, tensors, dict(zip(aliases, old.values())))
        signature.renamed |= {(side, new) for alias, new in sides[side].items() if new != alias}
    if in_graph:
        _rename_graph(signature)
    run_original = signature.run_original
    back = {new: old for old, new in sides["input"].items()}

    def run_renamed(arrays):
        results = run_original({back.get(alias, alias): it for alias, it in arrays.items()})
        return {sides["output"].get(alias, alias): it for alias, it in results.items()}

    signature.run_original = run_renamed


def _rename_graph(signature):
    names, taken = {}, set()
    for tensors in (signature.inputs, signature.outputs):
        for alias, tensor in tensors.items():
            name = alias
            # In clients' requests an input and an output can have the same name, in ONNX they cannot.
            while name in taken:
                name += "_out"
            taken.add(name)
            names[tensor.graph_name] = name
            tensor.graph_name = name
    rename_tensors(signature.graph, names)
