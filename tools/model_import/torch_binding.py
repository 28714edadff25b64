"""Which argument of a PyTorch model each `--input` stands for, and which result each `--output_alias`.

A name of the model's own means exactly that argument or result, in any order. Other names are taken in
the model's order. A command with names of both kinds could mean two things, and is refused.

Not here: what is inside of arguments and results (`torch_structure`), the export (`torch_model`).
"""

import dataclasses
import inspect
import itertools

from model_import.errors import ImportFailed

BOTH_KINDS = (
    "give the model's own names for all of them, in any order, or names of yours for all of them, in the "
    "model's order. --rename OLD=NEW renames single ones"
)
Kind = inspect.Parameter


@dataclasses.dataclass
class Binding:
    """How `forward` is called with tensors by alias."""

    signature: inspect.Signature
    positional: list
    by_keyword: list
    # Those that no argument has the name of, which `**kwargs` takes.
    extra: list = dataclasses.field(default_factory=list)

    def aliases(self):
        """In the order in which the exporter numbers the inputs."""
        return [*self.positional, *self.by_keyword, *self.extra]

    def arguments(self, values):
        """What to call the model with: positional and keyword arguments."""
        keywords = [*self.by_keyword, *self.extra]
        return tuple(values[it] for it in self.positional), {it: values[it] for it in keywords}

    def by_parameter(self, values):
        """The values nested as in the parameters: `*args` has a tuple, `**kwargs` a dict."""
        positional, by_keyword = self.arguments(values)
        return dict(self.signature.bind(*positional, **by_keyword).arguments)


def bindings(forward, aliases):
    """The ways to call `forward` with these aliases; the first that runs is the right one."""
    try:
        signature = inspect.signature(forward)
    except (TypeError, ValueError) as error:  # it is not written in Python
        raise ImportFailed(f"the arguments of forward are not known: {error}") from error
    plain = _names(signature, Kind.POSITIONAL_ONLY, Kind.POSITIONAL_OR_KEYWORD)
    takes_more = bool(_names(signature, Kind.VAR_POSITIONAL))
    takes_keywords = bool(_names(signature, Kind.VAR_KEYWORD))
    keywords = [it for it in _names(signature, Kind.KEYWORD_ONLY) if it in aliases]
    named = [it for it in plain if it in aliases]
    others = [it for it in aliases if it not in keywords and it not in named]
    ways = []
    if named or not others:
        # The rest after a gap, an argument that is left out, can only be given by keyword.
        pairs = itertools.takewhile(lambda pair: pair[0] == pair[1], zip(plain, named))
        first = [name for name, _ in pairs]
        if not others or takes_keywords:
            ways.append(Binding(signature, first, [*named[len(first) :], *keywords], others))
        if others and takes_more and named == plain:
            ways.append(Binding(signature, [*plain, *others], keywords))
    else:
        fits = takes_more or len(others) <= len(plain)
        if takes_keywords and not (fits and plain):
            ways.append(Binding(signature, [], keywords, others))
        if fits or not takes_keywords:
            ways.append(Binding(signature, others, keywords))
    if not ways:
        raise ImportFailed(
            f"--input: forward has arguments of the names {', '.join(named)}, but none of the names "
            f"{', '.join(others)}; it is forward{signature}: {BOTH_KINDS}"
        )
    for way in ways:
        _check(way)
    return ways


def _names(signature, *kinds):
    return [it.name for it in signature.parameters.values() if it.kind in kinds]


def _check(binding):
    try:
        values = {alias: alias for alias in binding.aliases()}
        bound = binding.by_parameter(values)
    except TypeError as error:
        given = ", ".join(binding.aliases())
        raise ImportFailed(
            f"--input {given}: forward{binding.signature} cannot be called with these: {error}"
        ) from error
    for name, alias in bound.items():
        if isinstance(alias, str) and alias != name:
            print(f"note: the input {alias} is the argument {name} of forward")


def by_name(option, aliases, names):
    """An alias for each of `names`, the model's own, of which None stands for a nameless one."""
    if len(aliases) != len(names) or len(set(aliases)) < len(aliases):
        listed = ", ".join(name or "(nameless)" for name in names)
        raise ImportFailed(
            f"{option}: the model has {len(names)} ({listed}), not these: {', '.join(aliases)}"
        )
    others = [alias for alias in aliases if alias not in names]
    if len(others) == len(aliases):
        return aliases
    if len(others) != names.count(None):
        named = [alias for alias in aliases if alias in names]
        listed = ", ".join(name for name in names if name)
        raise ImportFailed(
            f"{option}: {', '.join(named)} are names of the model's own ({listed}), and "
            f"{', '.join(others)} are not: {BOTH_KINDS}"
        )
    others = iter(others)
    return [next(others) if name is None else name for name in names]
