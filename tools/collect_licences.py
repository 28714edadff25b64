#!/usr/bin/env python3
"""Writes the licences of all crates that are linked into the server into one file.

Reads `cargo metadata` and the licence files in the crates' sources, which cargo has downloaded to
build them. Texts that several crates share are written once. A crate without any licence ends the
run: somebody has to look.

Not here: ONNX Runtime's notices, which `fetch_onnxruntime.py` takes out of its wheel.
"""

import argparse
import json
import os
import pathlib
import re
import subprocess
import sys

PROJECT = pathlib.Path(__file__).resolve().parent.parent

LICENCE_FILE = re.compile(r"(licen[cs]e|copying|notice|unlicense|copyright)([-._].*)?$", re.I)

HEADER = """\
onnx_model_server contains the crates below, besides Rust's standard library (MIT OR Apache-2.0,
https://www.rust-lang.org). Each comes under the licence named beside it; the texts follow.
"""
RULE = "=" * 80


def main():
    parser = argparse.ArgumentParser(description="Collects the licences of the linked crates.")
    parser.add_argument("--output", type=pathlib.Path, required=True)
    arguments = parser.parse_args()
    crates = linked_crates(read_metadata())
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(render(crates))
    print(f"collect_licences: {len(crates)} crates, {arguments.output.stat().st_size} bytes")


def read_metadata():
    cargo = os.environ.get("CARGO", "cargo")
    host = re.search(r"^host: (.+)$", run("rustc", "-vV"), re.M)[1]
    return json.loads(
        run(cargo, "metadata", "--format-version=1", "--locked", "--filter-platform", host)
    )


def run(*command):
    ended = subprocess.run(command, cwd=PROJECT, stdout=subprocess.PIPE, text=True, check=False)
    if ended.returncode:
        sys.exit(f"collect_licences: {command[0]} failed")
    return ended.stdout


def linked_crates(metadata):
    """The packages that the root reaches over normal dependencies, without the workspace's own, by name."""
    packages = {package["id"]: package for package in metadata["packages"]}
    nodes = {node["id"]: node for node in metadata["resolve"]["nodes"]}
    root = metadata["resolve"]["root"]
    reached, left = {root}, [root]
    while left:
        for dependency in nodes[left.pop()]["deps"]:
            kinds = [kind["kind"] for kind in dependency["dep_kinds"]]
            if None in kinds and dependency["pkg"] not in reached:
                reached.add(dependency["pkg"])
                left.append(dependency["pkg"])
    reached.difference_update(metadata["workspace_members"])
    return sorted((packages[id] for id in reached), key=lambda crate: crate["name"])


def render(crates):
    names_by_text = {}
    lines = [HEADER]
    without = []
    for crate in crates:
        name = f"{crate['name']} {crate['version']}"
        texts = licence_texts(crate)
        expression = crate["license"]
        lines.append(f"{name}: {expression or 'see its text'}")
        if not expression and not texts:
            without.append(name)
        elif not texts:
            lines[-1] += " (its sources come without the text)"
        for text in texts:
            names_by_text.setdefault(text, []).append(name)
    if without:
        sys.exit(f"collect_licences: no licence found for {', '.join(without)}")
    for text, names in names_by_text.items():
        lines += ["", RULE, ", ".join(names), RULE, "", text]
    return "\n".join(lines) + "\n"


def licence_texts(crate):
    folder = pathlib.Path(crate["manifest_path"]).parent
    files = {path for path in folder.iterdir() if path.is_file() and LICENCE_FILE.match(path.name)}
    if crate["license_file"]:
        files.add(folder / crate["license_file"])
    texts = (path.read_text(errors="replace").strip() for path in sorted(files))
    return [text.replace("\r\n", "\n") for text in texts if text]


if __name__ == "__main__":
    main()
