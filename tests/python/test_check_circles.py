"""`tools/check_circles.py`: which files import each other."""

import importlib.util

import pytest

from model_server import PROJECT

path = PROJECT / "tools" / "check_circles.py"
spec = importlib.util.spec_from_file_location("check_circles", path)
check_circles = importlib.util.module_from_spec(spec)
spec.loader.exec_module(check_circles)

USES_A = "use super::a::A;\npub struct B(A);"


def circles(folder, files, with_parents=False):
    """The circles of a crate with these files, as sorted names of files."""
    for name, text in files.items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    found = check_circles.circles(check_circles.Crate(folder / "lib.rs").imports(with_parents))
    name = lambda module: str(module.file.relative_to(folder))
    return sorted(sorted(map(name, members)) for members in found)


@pytest.mark.parametrize(
    "a",
    [
        "use super::b::B;\npub struct A(Option<B>);",
        "use crate::{\n    b::{B, C as D},\n};\npub struct A;",
        "pub struct A;\nfn f() { super::b::f() }",
        "use super::b;\npub struct A;\nfn f() { b::f() }",
        # The root re-exports it from `b`.
        "use crate::B;\npub struct A;",
        "pub struct A<'a>(&'a str, char);\nfn f() -> char { crate::b::f(); 'x' }",
    ],
)
def test_imports_both_ways_are_a_circle(tmp_path, a):
    root = "mod a;\nmod b;\npub use self::b::B;"
    assert circles(tmp_path, {"lib.rs": root, "a.rs": a, "b.rs": USES_A}) == [["a.rs", "b.rs"]]


@pytest.mark.parametrize(
    "a",
    [
        "pub struct A;",
        "// super::b::B\n/* super::b::B */ pub struct A;\nconst S: &str = \"super::b::B\";",
        'const S: &str = r#"a " super::b::B"#; pub struct A;',
        "pub struct A;\n#[cfg(test)]\nmod tests {\n    use crate::b::B;\n    fn f() {}\n}",
        "pub struct A;\n#[cfg(test)]\nuse super::b::{B, C};",
        "pub struct A;\n#[cfg(test)]\nfn f(b: crate::b::B) -> [u8; 2] { [1, 2] }",
        "pub struct A;\n#[cfg(test)]\nmod tests;",
        "pub struct A;\n#[cfg(any(test, feature = \"testing\"))]\npub mod testing;",
    ],
)
def test_imports_of_tests_and_texts_do_not_count(tmp_path, a):
    uses_b = "use crate::b::B;"
    files = {"lib.rs": "mod a;\nmod b;", "a.rs": a, "b.rs": USES_A}
    files |= {"a/tests.rs": uses_b, "a/testing.rs": uses_b}
    assert circles(tmp_path, files) == []


def test_what_follows_a_test_counts(tmp_path):
    a = "pub struct A;\n#[cfg(test)]\nfn f() {}\nuse super::b::B;"
    files = {"lib.rs": "mod a;\nmod b;", "a.rs": a, "b.rs": USES_A}
    assert circles(tmp_path, files) == [["a.rs", "b.rs"]]


def test_imports_from_a_parent_count_if_asked_for(tmp_path):
    files = {
        "lib.rs": "mod a;",
        "a.rs": "mod b;\nuse self::b::B;\npub struct A(B);",
        "a/b.rs": "use super::A;\npub struct B;",
    }
    assert circles(tmp_path, files) == []
    assert circles(tmp_path, files, with_parents=True) == [["a.rs", "a/b.rs"]]


def test_circle_through_several_files_is_one(tmp_path):
    files = {"lib.rs": "mod a;\nmod b;\nmod c;\nmod d;"}
    for name, other in [("a", "b"), ("b", "c"), ("c", "a"), ("d", "a")]:
        files[f"{name}.rs"] = f"use super::{other}::T;\npub struct T;"
    assert circles(tmp_path, files) == [["a.rs", "b.rs", "c.rs"]]
