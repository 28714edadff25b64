"""tools/translate_openvino_config.py, and that the server takes what it writes.

The inputs have the form that OpenVINO Model Server documents: docs/parameters.md and
docs/models_repository_classic.md in its repository.
"""

import json
import shutil
import subprocess
import sys

import pytest

from model_server import PROJECT, ModelServer

TOOL = PROJECT / "tools" / "translate_openvino_config.py"
MODELS = PROJECT / "models"


def translate(kind, file, content):
    """Writes `content` to `file` and translates it: exit status, stdout and stderr's lines."""
    file.write_text(content if isinstance(content, str) else json.dumps(content))
    command = [sys.executable, TOOL, kind, file]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60)
    return ended.returncode, ended.stdout, ended.stderr.replace(f"{file}: ", "").splitlines()


def config(**model):
    return {"model_config_list": [{"config": {"name": "m", "base_path": "/models/m", **model}}]}


def test_server_serves_a_translated_config(tmp_path):
    shutil.copytree(MODELS / "half_plus_two", tmp_path / "models" / "half_plus_two")
    models = [
        # A relative base path starts at the file's directory.
        {"name": "half_plus_two", "base_path": "models/half_plus_two"},
        {
            "name": "mnist",
            "base_path": str(MODELS / "mnist"),
            "model_version_policy": {"specific": {"versions": [2]}},
        },
    ]
    content = {"model_config_list": [{"config": model} for model in models]}
    status, text, notes = translate("config", tmp_path / "config.json", content)
    assert (status, notes) == (0, [])
    (tmp_path / "models.config").write_text(text)

    flags = [f"--model_config_file={tmp_path / 'models.config'}"]
    server = ModelServer(flags, ["half_plus_two", "mnist"], tmp_path / "server.log")
    server.stop()


def test_server_serves_under_the_mapped_names(tmp_path):
    version = tmp_path / "half_plus_two" / "1"
    version.mkdir(parents=True)
    shutil.copy(MODELS / "half_plus_two" / "1" / "model.onnx", version)
    content = {"inputs": {"x": "number"}, "outputs": {"y": "half plus two"}}
    status, text, notes = translate("mapping", version / "mapping_config.json", content)
    assert status == 0
    assert notes == [
        "outputs that are not in the file are not served: add those that clients ask for"
    ]
    (version / "signature_map.pbtxt").write_text(text)

    flags = ["--model_name=half_plus_two", f"--model_base_path={version.parent}"]
    server = ModelServer(flags, ["half_plus_two"], tmp_path / "server.log")
    try:
        status, body = server.predict_rest("half_plus_two", '{"inputs": {"number": [1, 2, 5]}}')
    finally:
        server.stop()
    # x / 2 + 2; a single output is returned without its name.
    assert (status, json.loads(body)) == (200, {"outputs": [2.5, 3.0, 4.5]})


@pytest.mark.parametrize(
    ("policy", "line"),
    [
        ({"all": {}}, "all { }"),
        ({"latest": {"num_versions": 2}}, "latest { num_versions: 2 }"),
        ({"specific": {"versions": [1, 3]}}, "specific { versions: 1 versions: 3 }"),
        ('{"latest": {"num_versions": 2}}', "latest { num_versions: 2 }"),
    ],
)
def test_version_policies_are_translated(tmp_path, policy, line):
    content = config(model_version_policy=policy)
    status, text, notes = translate("config", tmp_path / "config.json", content)
    assert (status, notes) == (0, [])
    assert f"    model_version_policy {{ {line} }}\n" in text


def test_what_has_no_counterpart_is_named(tmp_path):
    content = config(batch_size="16", nireq=4, target_device="CPU")
    content["pipeline_config_list"] = []
    status, text, notes = translate("config", tmp_path / "config.json", content)
    assert status == 0
    assert 'base_path: "/models/m"' in text
    assert notes == [
        "pipeline_config_list is left out: this server runs single models only",
        "m: batch_size is left out: see docs/migrating.md for what takes its place",
        "m: nireq is left out: it has no counterpart",
        "m: target_device is left out: it has no counterpart",
    ]


def test_paths_that_need_a_hand_are_named(tmp_path):
    for path, note in [
        ("s3://bucket/m", "m: s3://bucket/m is remote"),
        ("/models/m.onnx", "m: /models/m.onnx is a file"),
    ]:
        status, text, notes = translate("config", tmp_path / "config.json", config(base_path=path))
        assert status == 0
        assert f'base_path: "{path}"' in text
        assert len(notes) == 1 and notes[0].startswith(note)


def test_text_is_escaped(tmp_path):
    content = config(name='a "model" \\ \n')
    _, text, _ = translate("config", tmp_path / "config.json", content)
    assert 'name: "a \\"model\\" \\\\ \\012"' in text


@pytest.mark.parametrize(
    ("kind", "content", "error"),
    [
        ("config", "{", "Expecting property name"),
        ("config", [], "is no JSON object"),
        ("config", {}, "has no model_config_list"),
        ("config", {"model_config_list": [{}]}, "an item of model_config_list has no config"),
        ("config", {"model_config_list": [{"config": {"name": "m"}}]}, "m has no base_path"),
        ("config", {"model_config_list": config()["model_config_list"] * 2}, "m is there twice"),
        ("config", config(model_version_policy={"newest": 1}), "m: model_version_policy is not"),
        ("config", config(model_version_policy="{"), "m: model_version_policy: "),
        ("mapping", {"inputs": ["x"]}, "inputs is no JSON object"),
        ("mapping", {"outputs": {"y": 1}}, "outputs: y has no name for clients"),
    ],
)
def test_what_is_not_of_the_form_is_refused(tmp_path, kind, content, error):
    status, text, errors = translate(kind, tmp_path / "file.json", content)
    assert (status, text) == (1, "")
    assert errors[0].startswith(error)
