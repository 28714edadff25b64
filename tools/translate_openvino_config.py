#!/usr/bin/env python3
"""Translates OpenVINO Model Server's configuration into this server's.

    translate_openvino_config.py config config.json > models.config
    translate_openvino_config.py mapping mapping_config.json > signature_map.pbtxt

The first makes the file for `--model_config_file`: names, base paths and version policies. The
second makes the file that lies in the version directory in place of `mapping_config.json`. What has
no counterpart is said on stderr, one line each. The exit status is 0 if there is a translation, 1 if
the file cannot be read or is not of its form. Runs on Python's standard library alone.

Not here: the models themselves; the server takes ONNX files, no OpenVINO IR.
"""

import argparse
import json
import pathlib
import sys

UNKNOWN_LIST = "is left out: this server runs single models only"
# Fields of one model. The rest is about OpenVINO's devices.
TRANSLATED = {"name", "base_path", "model_version_policy"}
REPLACED = {"batch_size", "shape", "layout", "precision", "mean", "scale", "color_format"}
REMOTE = ("gs://", "s3://", "azure://", "azfs://", "http://", "https://")
MODEL_FILES = (".onnx", ".xml", ".pb", ".pdmodel", ".pdiparams", ".tflite")


class TranslationError(Exception):
    """Why there is no translation."""


def main():
    parser = argparse.ArgumentParser(
        description="Translates OpenVINO Model Server's configuration; writes to stdout."
    )
    kinds = parser.add_subparsers(dest="kind", required=True)
    config = kinds.add_parser("config", help="config.json, into a models.config")
    config.add_argument("file", type=pathlib.Path)
    mapping = kinds.add_parser("mapping", help="mapping_config.json, into a signature_map.pbtxt")
    mapping.add_argument("file", type=pathlib.Path)
    arguments = parser.parse_args()
    try:
        content = read_object(arguments.file)
        if arguments.kind == "config":
            text, notes = translate_config(content, arguments.file.resolve().parent)
        else:
            text, notes = translate_mapping(content)
    except TranslationError as error:
        sys.exit(f"{arguments.file}: {error}")
    for note in notes:
        print(f"{arguments.file}: {note}", file=sys.stderr)
    print(text, end="")


def read_object(file):
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise TranslationError(error) from error
    if not isinstance(content, dict):
        raise TranslationError("is no JSON object")
    return content


def translate_config(content, folder):
    """A ModelServerConfig in text format, and notes; relative base paths begin at `folder`."""
    notes = [f"{key} {UNKNOWN_LIST}" for key in content if key != "model_config_list"]
    entries = content.get("model_config_list")
    if not isinstance(entries, list):
        raise TranslationError("has no model_config_list")
    lines = ["model_config_list {"]
    names = set()
    for entry in entries:
        model = entry.get("config") if isinstance(entry, dict) else None
        if not isinstance(model, dict):
            raise TranslationError("an item of model_config_list has no config")
        name = text_field(model, "name", "a model")
        if name in names:
            raise TranslationError(f"{name} is there twice")
        names.add(name)
        lines += translate_model(name, model, folder, notes)
    lines.append("}")
    return "\n".join(lines) + "\n", notes


def translate_model(name, model, folder, notes):
    path = text_field(model, "base_path", name)
    if path.startswith(REMOTE):
        notes.append(f"{name}: {path} is remote: see the documentation for what is read")
    else:
        path = str(folder / path)
        if path.endswith(MODEL_FILES):
            notes.append(f"{name}: {path} is a file: put it into a version folder, 1/model.onnx")
    for key in model:
        if key in REPLACED:
            notes.append(f"{name}: {key} is left out: see docs/migrating.md for what takes its place")
        elif key not in TRANSLATED:
            notes.append(f"{name}: {key} is left out: it has no counterpart")
    return [
        "  config {",
        f"    name: {quoted(name)}",
        f"    base_path: {quoted(path)}",
        '    model_platform: "tensorflow"',
        *translate_policy(name, model.get("model_version_policy")),
        "  }",
    ]


def translate_policy(name, policy):
    """The lines of `model_version_policy`; none for the default, which both servers share."""
    if isinstance(policy, str):
        try:
            policy = json.loads(policy)
        except ValueError as error:
            raise TranslationError(f"{name}: model_version_policy: {error}") from error
    match policy:
        case None:
            return []
        case {"all": _}:
            inside = "all { }"
        case {"latest": {"num_versions": int(count)}} if count > 0:
            inside = f"latest {{ num_versions: {count} }}"
        case {"specific": {"versions": [*versions]}} if versions and all(
            isinstance(version, int) and version > 0 for version in versions
        ):
            inside = "specific { " + " ".join(f"versions: {each}" for each in versions) + " }"
        case _:
            raise TranslationError(f"{name}: model_version_policy is not understood: {policy}")
    return [f"    model_version_policy {{ {inside} }}"]


def translate_mapping(content):
    """A SignatureMap in text format, and notes."""
    notes = [f"{key} is left out" for key in content if key not in ("inputs", "outputs")]
    lines = ["signature {", '  name: "serving_default"']
    for key, field in (("inputs", "input"), ("outputs", "output")):
        aliases = content.get(key, {})
        if not isinstance(aliases, dict):
            raise TranslationError(f"{key} is no JSON object")
        for tensor, alias in aliases.items():
            if not isinstance(alias, str) or not alias:
                raise TranslationError(f"{key}: {tensor} has no name for clients")
            lines.append(f"  {field} {{ alias: {quoted(alias)} tensor: {quoted(tensor)} }}")
    lines.append("}")
    if content.get("outputs"):
        notes.append("outputs that are not in the file are not served: add those that clients ask for")
    return "\n".join(lines) + "\n", notes


def text_field(model, key, owner):
    value = model.get(key)
    if not isinstance(value, str) or not value:
        raise TranslationError(f"{owner} has no {key}")
    return value


def quoted(text):
    """A string of protobuf's text format."""
    escapes = {ord('"'): '\\"', ord("\\"): "\\\\"}
    escapes |= {code: f"\\{code:03o}" for code in [*range(32), 127]}
    return f'"{text.translate(escapes)}"'


if __name__ == "__main__":
    main()
