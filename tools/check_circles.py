#!/usr/bin/env python3
"""Finds circles of imports between the files of each crate.

A file imports another one if it names an item that the other one defines, in a `use` declaration or in a
path that begins with `crate`, `self`, `super` or a child module. An item that a module only re-exports
counts as imported from the file that defines it. Test modules, and modules behind the feature
`testing`, are left out, as are methods: a call names no file.

A module can import from its parents, because it is a part of them: such imports make no circle.
With `--parents` they do.

Usage: tools/check_circles.py [--parents] [CRATE…] (default: all crates of the workspace)
"""

import re
import sys
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

# Comments, strings and characters. A lifetime (`'a`) is none of them.
IGNORED = re.compile(
    r"""//[^\n]*|/\*.*?\*/|b?r(\#*)".*?"\1|b?"(?:\\.|[^"\\])*"|b?'(?:\\[^\n]{1,10}?|[^\\'\n])'""",
    re.DOTALL,
)
# Before such strings are gone, because the text of an attribute is one.
TEST_ATTRIBUTE = re.compile(
    r"""\#\[cfg\((?:test|feature\s*=\s*"testing"|any\((?:test|feature\s*=\s*"testing"|[\s,])*\)"""
    r"""|all\(test,[^\]]*\))\)\]"""
)
TEST_MARK = "#[only_in_tests]"
DEFINITION = re.compile(
    r"(?<![\w:])(?:struct|enum|union|trait|type|fn|const|static|macro_rules!)\s+(?:r#)?(\w+)"
)
MODULE = re.compile(r"(?<![\w:])mod\s+(?:r#)?(\w+)\s*([;{])")
USE = re.compile(r"(?<![\w:])(pub(?:\([^)]*\))?\s+)?use\s+([^;]+);")
PATH = re.compile(r"(?<![\w:$])(?:r#)?(\w+)((?:\s*::\s*(?:r#)?\w+)+)")


class Module:
    """A module that has a file of its own. `path` is its path in the crate, as a tuple."""

    def __init__(self, path, file):
        self.path, self.file = path, file
        text = TEST_ATTRIBUTE.sub(TEST_MARK, file.read_text())
        text = IGNORED.sub(blank, text)
        text, self.tests = without_tests(text)
        # The paths of modules inside of the file begin elsewhere; they are small, and are left out.
        self.children = {name for name, end in MODULE.findall(text) if end == ";"}
        self.uses = [
            (line(text, found.start()), item)
            for found in USE.finditer(text)
            for item in expanded(found[2])
        ]
        self.defined = set(DEFINITION.findall(text))
        self.text = USE.sub(blank, text)
        # Names that are re-exported and not used here.
        self.only_exported = {
            name
            for found in USE.finditer(text)
            for _, name in expanded(found[2])
            if found[1] and not re.search(rf"\b{re.escape(name)}\b", self.text)
        }


def blank(found):
    """What was found, with all but its line breaks replaced by spaces."""
    return re.sub(r"[^\n]", " ", found[0])


def without_tests(text):
    """The text without what only tests compile, and the names of the modules that only tests have."""
    modules = set()
    while (start := text.find(TEST_MARK)) >= 0:
        end = end_of_item(text, start + len(TEST_MARK))
        item = text[start:end]
        modules.update(name for name, rest in MODULE.findall(item[:200]) if rest == ";")
        text = text[:start] + re.sub(r"[^\n]", " ", item) + text[end:]
    return text, modules


def end_of_item(text, start):
    """The end of the item that begins at `start`: a semicolon or comma, or a block's closing brace."""
    depth = 0
    for index in range(start, len(text)):
        match text[index]:
            case "{" | "(" | "[":
                depth += 1
            case "}" | ")" | "]":
                depth -= 1
                if depth < 0:
                    return index
                # `use a::{b, c};` and `let x = {…};` end with the semicolon after the brace.
                if depth == 0 and text[index] == "}" and not re.match(r"\s*[;,]", text[index + 1 :]):
                    return index + 1
            case ";" | "," if depth == 0:
                return index + 1
    return len(text)


def line(text, offset):
    return text.count("\n", 0, offset) + 1


def expanded(tree):
    """The paths of a `use` tree, each with the name that it introduces."""
    tree = re.sub(r"\s+", " ", tree).strip()
    if "{" not in tree:
        path, _, name = tree.partition(" as ")
        segments = tuple(it.strip().removeprefix("r#") for it in path.split("::"))
        return [(segments, (name or segments[-1]).strip())]
    prefix, rest = tree.split("{", 1)
    rest, depth, parts, part = rest.rsplit("}", 1)[0], 0, [], ""
    for letter in rest + ",":
        depth += {"{": 1, "}": -1}.get(letter, 0)
        if letter == "," and depth == 0:
            parts.append(part.strip())
            part = ""
        else:
            part += letter
    paths = []
    for part in filter(None, parts):
        if part == "self" or part.startswith("self as "):
            part = part.removeprefix("self")
            paths += expanded(prefix.strip().removesuffix("::") + part)
        else:
            paths += expanded(prefix + part)
    return paths


class Crate:
    def __init__(self, root_file):
        self.folder = root_file.parent
        self.modules = {}
        self.add((), root_file)

    def add(self, path, file):
        module = self.modules[path] = Module(path, file)
        is_folder = file.name in ("lib.rs", "main.rs", "mod.rs")
        folder = file.parent if is_folder else file.with_suffix("")
        for child in sorted(module.children):
            for candidate in (folder / f"{child}.rs", folder / child / "mod.rs"):
                if candidate.is_file():
                    self.add((*path, child), candidate)

    def definition(self, module, segments, seen=frozenset()):
        """The module whose file defines what a path names, as seen from `module`; `None` if it is not of
        this crate."""
        at, segments = list(module.path), list(segments)
        first = segments[0]
        if first == "crate":
            at, segments = [], segments[1:]
        elif first in ("self", "super"):
            while segments and segments[0] in ("self", "super"):
                if segments.pop(0) == "super":
                    if not at:
                        return None
                    at.pop()
        elif first not in module.children:
            return None
        while segments and (*at, segments[0]) in self.modules:
            at.append(segments.pop(0))
        target = self.modules.get(tuple(at))
        if target is None or not segments or segments[0] in ("*", *target.defined):
            return target
        key = (target.path, segments[0])
        if key in seen:
            return None
        for _, (path, name) in target.uses:
            if name == segments[0]:
                return self.definition(target, path, seen | {key})
        for _, (path, name) in target.uses:
            if name == "*":
                found = self.definition(target, (*path[:-1], segments[0]), seen | {key})
                if found is not None:
                    return found
        # Such as an item that a macro defines.
        return target

    def imports(self, with_parents):
        """Per module, the modules that it imports from, each with the line and the path of one import."""
        found = defaultdict(dict)
        for module in self.modules.values():
            named = [it for it in module.uses if it[1][1] not in module.only_exported]
            for path in PATH.finditer(module.text):
                segments = tuple(re.sub(r"\s|r#", "", path[0]).split("::"))
                named.append((line(module.text, path.start()), (segments, segments[-1])))
            for number, (segments, _) in named:
                target = self.definition(module, segments)
                if target in (None, module):
                    continue
                is_parent = module.path[: len(target.path)] == target.path
                if with_parents or not is_parent:
                    found[module].setdefault(target, (number, "::".join(segments)))
        return found


def circles(imports):
    """The strongly connected components of more than one file (Tarjan)."""
    order, low, stack, result = {}, {}, [], []

    def visit(module):
        order[module] = low[module] = len(order)
        stack.append(module)
        for target in imports.get(module, {}):
            if target not in order:
                visit(target)
                low[module] = min(low[module], low[target])
            elif target in stack:
                low[module] = min(low[module], order[target])
        if low[module] == order[module]:
            members = []
            while members[-1:] != [module]:
                members.append(stack.pop())
            if len(members) > 1:
                result.append(members)

    for module in list(imports):
        if module not in order:
            visit(module)
    return result


def crates():
    """The root file of each crate, by name."""
    folders = {it.parent.name: it.parent for it in ROOT.glob("crates/*/Cargo.toml")}
    folders["server"] = ROOT
    files = {name: folder / "src" / "lib.rs" for name, folder in folders.items()}
    return {name: file for name, file in sorted(files.items()) if file.is_file()}


def main(arguments):
    sys.setrecursionlimit(10_000)
    with_parents = "--parents" in arguments
    names = [it for it in arguments if it != "--parents"]
    known, count = crates(), 0
    for name in names or known:
        crate = Crate(known[name])
        imports = crate.imports(with_parents)
        for members in circles(imports):
            count += 1
            print(f"check_circles: {name}: {len(members)} files import each other:")
            for module in sorted(members, key=lambda it: it.path):
                for target in sorted(members, key=lambda it: it.path):
                    if target in imports[module]:
                        number, path = imports[module][target]
                        file = module.file.relative_to(ROOT)
                        other = target.file.relative_to(crate.folder)
                        print(f"  {file}:{number}: {path} is defined in {other}")
    print(f"check_circles: {len(names or known)} crates, {count} circles")
    return 1 if count else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
