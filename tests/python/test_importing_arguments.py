"""Which argument each `--input` of tools/import_model.py stands for; PyTorch itself is not needed."""

import sys

import pytest

from model_server import PROJECT

sys.path.insert(0, str(PROJECT / "tools"))

from model_import.errors import ImportFailed
from model_import.torch_binding import bindings, by_name


def bert(input_ids=None, attention_mask=None, token_type_ids=None):
    return {"input_ids": input_ids, "attention_mask": attention_mask, "segments": token_type_ids}


def pair(a, b):
    return {"a": a, "b": b}


def keyword(x, *, scale=1, bias=0):
    return {"x": x, "scale": scale, "bias": bias}


def any_keyword(**batch):
    return batch


def one_and_any(x, **others):
    return {"x": x, **others}


def optional_and_any(x=None, **others):
    return {"x": x, **others}


def positional(*values):
    return dict(enumerate(values))


def one_and_more(first, *rest):
    return {"first": first, **dict(enumerate(rest))}


def only_positional(a, b=None, /):
    return {"a": a, "b": b}


def anything(*values, **named):
    return {**dict(enumerate(values)), **named}


def call(forward, aliases):
    """What `forward` gets from each way to call it, if every alias's value is the alias."""
    values = {alias: alias for alias in aliases}
    got = []
    for binding in bindings(forward, aliases):
        assert sorted(binding.aliases()) == sorted(aliases)
        by_position, by_keyword = binding.arguments(values)
        # The exporter numbers inputs in the order of the call.
        assert [*by_position, *by_keyword.values()] == binding.aliases()
        got.append(forward(*by_position, **by_keyword))
    return got


@pytest.mark.parametrize(
    "forward, aliases, expected",
    [
        # An argument that is left out does not shift the others.
        (bert, ["input_ids", "token_type_ids"], {"input_ids": "input_ids", "segments": "token_type_ids"}),
        (bert, ["token_type_ids"], {"segments": "token_type_ids"}),
        (bert, ["attention_mask", "input_ids"], {"input_ids": "input_ids", "attention_mask": "attention_mask"}),
        (bert, ["words", "mask"], {"input_ids": "words", "attention_mask": "mask"}),
        (pair, ["b", "a"], {"a": "a", "b": "b"}),
        (pair, ["left", "right"], {"a": "left", "b": "right"}),
        (keyword, ["scale", "x"], {"x": "x", "scale": "scale", "bias": 0}),
        (keyword, ["bias", "image"], {"x": "image", "scale": 1, "bias": "bias"}),
        (any_keyword, ["x", "y"], {"x": "x", "y": "y"}),
        (any_keyword, ["batch"], {"batch": "batch"}),
        (one_and_any, ["y", "x"], {"x": "x", "y": "y"}),
        (one_and_any, ["image"], {"x": "image"}),
        (positional, ["p", "q"], {0: "p", 1: "q"}),
        (one_and_more, ["first", "p", "q"], {"first": "first", 0: "p", 1: "q"}),
        (one_and_more, ["p", "first"], {"first": "first", 0: "p"}),
        (one_and_more, ["o", "p"], {"first": "o", 0: "p"}),
        (only_positional, ["b", "a"], {"a": "a", "b": "b"}),
    ],
)
def test_names_of_arguments_are_those_arguments(forward, aliases, expected):
    (got,) = call(forward, aliases)
    unset = {name: value for name, value in got.items() if value is None}
    assert got == {**unset, **expected}


def test_arguments_without_names_are_given_by_keyword_first():
    assert call(anything, ["x", "y"]) == [{"x": "x", "y": "y"}, {0: "x", 1: "y"}]


@pytest.mark.parametrize(
    "forward, aliases, error",
    [
        (bert, ["input_ids", "segment_ids"], "none of the names segment_ids"),
        (pair, ["a", "right"], "none of the names right"),
        (pair, ["b"], "missing a required argument: 'a'"),
        (pair, ["p", "q", "r"], "too many positional arguments"),
        (keyword, ["scale"], "missing a required argument: 'x'"),
        (one_and_any, ["p", "q"], "missing a required argument: 'x'"),
        (only_positional, ["b"], "missing a required argument: 'a'"),
    ],
)
def test_other_names_are_refused(forward, aliases, error):
    with pytest.raises(ImportFailed, match=error):
        bindings(forward, aliases)


def test_dims_are_nested_as_the_parameters_are():
    (binding,) = bindings(one_and_more, ["first", "p"])
    assert binding.by_parameter({"first": 1, "p": 2}) == {"first": 1, "rest": (2,)}
    (binding,) = bindings(one_and_any, ["x", "y"])
    assert binding.by_parameter({"x": 1, "y": 2}) == {"x": 1, "others": {"y": 2}}
    assert binding.extra == ["y"]


@pytest.mark.parametrize(
    "aliases, names, expected",
    [
        (["b", "a"], ["a", "b"], ["a", "b"]),
        (["p", "q"], ["a", "b"], ["p", "q"]),
        (["q", "a"], ["a", None], ["a", "q"]),
        (["p", "q"], [None, None], ["p", "q"]),
    ],
)
def test_names_of_a_program_are_those_tensors(aliases, names, expected):
    assert by_name("--input", aliases, names) == expected


@pytest.mark.parametrize(
    "aliases, names, error",
    [
        (["b", "q"], ["a", "b"], "b are names of the model's own"),
        (["a"], ["a", "b"], "the model has 2"),
        (["a", "a"], ["a", "b"], "not these"),
    ],
)
def test_mixed_names_of_a_program_are_refused(aliases, names, error):
    with pytest.raises(ImportFailed, match=error):
        by_name("--input", aliases, names)
