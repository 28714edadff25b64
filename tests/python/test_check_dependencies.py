"""`tools/check_dependencies.py`: what it makes of licence expressions and of crates."""

import importlib.util

import pytest

from model_server import PROJECT

path = PROJECT / "tools" / "check_dependencies.py"
spec = importlib.util.spec_from_file_location("check_dependencies", path)
check_dependencies = importlib.util.module_from_spec(spec)
spec.loader.exec_module(check_dependencies)

ALLOWED = {"MIT", "Apache-2.0", "ISC"}


# Forms that crates really use; SPDX specification 2.3, annex D: AND binds closer than OR.
@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("MIT", True),
        ("GPL-3.0", False),
        ("MIT OR GPL-3.0", True),
        ("GPL-3.0/MIT", True),
        ("MIT AND GPL-3.0", False),
        ("Apache-2.0 AND ISC", True),
        ("GPL-3.0 OR MIT AND ISC", True),
        ("(GPL-3.0 OR MIT) AND GPL-2.0", False),
        ("(MIT OR Apache-2.0) AND ISC", True),
        ("Apache-2.0 WITH LLVM-exception", False),
        ("Apache-2.0 WITH LLVM-exception OR Apache-2.0 OR MIT", True),
    ],
)
def test_licence_expression_is_understood(expression, expected):
    assert check_dependencies.is_allowed(expression, ALLOWED) == expected


@pytest.mark.parametrize("expression", ["MIT MIT", "(MIT", "MIT)"])
def test_what_is_no_expression_is_not_allowed(expression):
    with pytest.raises(ValueError):
        check_dependencies.is_allowed(expression, ALLOWED)


def test_crates_are_held_against_the_rules():
    rules = {
        "licenses": {"allow": ["MIT"]},
        "sources": {"allow-registry": ["https://registry"]},
        "bans": {"deny": [{"name": "bad", "reason": "it is bad"}]},
    }
    good = {"name": "good", "version": "1", "license": "MIT", "source": "registry+https://registry"}
    packages = [
        good,
        good | {"name": "bad"},
        good | {"license": None},
        good | {"license": "GPL-3.0"},
        good | {"source": "git+https://elsewhere"},
    ]
    assert check_dependencies.complaints(packages, rules) == [
        "bad 1 is banned: it is bad",
        "good 1 names no licence",
        "good 1: GPL-3.0 is not allowed by deny.toml",
        "good 1 comes from git+https://elsewhere",
    ]
