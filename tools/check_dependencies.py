#!/usr/bin/env python3
"""Checks licences, bans, sources and known vulnerabilities of all crates against `deny.toml`.

With cargo-deny where it is installed. Without, licences, banned names and sources are checked here
from `cargo metadata`, by the same file, and what is left out is said. The database of advisories has
to be fetched; where it cannot be, that is said too, and is no failure.
"""

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def main() -> int:
    if succeeds("cargo", "deny", "--version"):
        return with_cargo_deny()
    rules = tomllib.loads((ROOT / "deny.toml").read_text())
    packages = metadata()
    wrong = complaints(packages, rules)
    for line in wrong:
        print(f"check_dependencies: {line}", file=sys.stderr)
    print(f"check_dependencies: {len(packages)} crates, {len(wrong)} complaints")
    print("check_dependencies: cargo-deny is not installed: ADVISORIES WERE NOT CHECKED")
    return 1 if wrong else 0


def with_cargo_deny() -> int:
    status = run("cargo", "deny", "--all-features", "--locked", "check", "licenses", "bans", "sources")
    if not succeeds("cargo", "deny", "fetch", "db"):
        print("check_dependencies: no database could be fetched: ADVISORIES WERE NOT CHECKED")
        return status
    return status or run("cargo", "deny", "--all-features", "--locked", "check", "advisories")


def run(*command: str) -> int:
    return subprocess.run(command, cwd=ROOT, check=False).returncode


def succeeds(*command: str) -> bool:
    try:
        finished = subprocess.run(command, cwd=ROOT, capture_output=True, check=False)
    except FileNotFoundError:
        return False
    return finished.returncode == 0


def metadata() -> list[dict]:
    """Every crate that any target or feature needs, this one left out."""
    command = ["cargo", "metadata", "--format-version=1", "--locked", "--all-features"]
    output = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    found = json.loads(output)
    members = set(found["workspace_members"])
    return [package for package in found["packages"] if package["id"] not in members]


def complaints(packages: list[dict], rules: dict) -> list[str]:
    """What is wrong with the crates, a line each."""
    allowed = set(rules["licenses"]["allow"])
    registries = {f"registry+{url}" for url in rules["sources"]["allow-registry"]}
    banned = {ban["name"]: ban["reason"] for ban in rules["bans"]["deny"]}
    wrong = []
    for package in packages:
        name = f"{package['name']} {package['version']}"
        expression = package["license"]
        if not expression:
            wrong.append(f"{name} names no licence")
        elif not is_allowed(expression, allowed):
            wrong.append(f"{name}: {expression} is not allowed by deny.toml")
        if package["source"] not in registries:
            wrong.append(f"{name} comes from {package['source']}")
        if package["name"] in banned:
            wrong.append(f"{name} is banned: {banned[package['name']]}")
    return wrong


def is_allowed(expression: str, allowed: set[str]) -> bool:
    """Whether an SPDX expression can be met with these licences; `/` is an old way to write OR."""
    tokens = re.findall(r"[()]|[^\s()/]+|/", expression)
    tokens = ["OR" if token == "/" else token for token in tokens]
    result, rest = alternatives(tokens, allowed)
    if rest:
        raise ValueError(f"not an SPDX expression: {expression}")
    return result


def alternatives(tokens: list[str], allowed: set[str]) -> tuple[bool, list[str]]:
    result, tokens = together(tokens, allowed)
    while tokens[:1] == ["OR"]:
        other, tokens = together(tokens[1:], allowed)
        result = result or other
    return result, tokens


def together(tokens: list[str], allowed: set[str]) -> tuple[bool, list[str]]:
    result, tokens = single(tokens, allowed)
    while tokens[:1] == ["AND"]:
        other, tokens = single(tokens[1:], allowed)
        result = result and other
    return result, tokens


def single(tokens: list[str], allowed: set[str]) -> tuple[bool, list[str]]:
    if tokens[:1] == ["("]:
        result, tokens = alternatives(tokens[1:], allowed)
        if tokens[:1] != [")"]:
            raise ValueError("a parenthesis is not closed")
        return result, tokens[1:]
    name, tokens = " ".join(tokens[:1]), tokens[1:]
    if tokens[:1] == ["WITH"]:
        name, tokens = f"{name} WITH {' '.join(tokens[1:2])}", tokens[2:]
    return name in allowed, tokens


if __name__ == "__main__":
    sys.exit(main())
