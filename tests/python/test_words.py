"""What the server says where something is wrong: where a new user looks, as that user sees it."""

import json
import os
import re
import shutil
import socket
import subprocess

import pytest

from model_server import BINARY, CALL_SECONDS, LIBRARY, PROJECT, ModelServer, free_ports, poll
from onnx_models import FLOAT, model, np, publish, says_its_version

HALF_PLUS_TWO = PROJECT / "models" / "half_plus_two"
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"


def run(*arguments):
    """The status and what a terminal shows: stdout and stderr in one."""
    ended = subprocess.run(
        [BINARY, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=CALL_SECONDS,
        env={**os.environ, "ORT_DYLIB_PATH": LIBRARY},
    )
    return ended.returncode, ended.stdout


@pytest.mark.parametrize(
    "flag, error",
    [
        ("--port=80x", "Couldn't interpret value 80x for flag port."),
        ("--enable_batching=maybe", "Couldn't interpret value maybe for flag enable_batching."),
    ],
)
def test_bad_value_is_the_last_line(flag, error):
    status, shown = run(flag, "--model_name=m")
    assert status == 255
    assert shown.startswith("usage: ")
    assert shown.splitlines()[-1] == error


@pytest.mark.parametrize(
    "arguments, line",
    [
        (["--prot=8500"], "unknown argument --prot=8500: --help lists the flags"),
        (["--port", "8500"], "unknown argument --port: a flag is written --name=value, in one word"),
        (["-port=8500"], "unknown argument -port=8500: a flag is written --name=value, in one word"),
        (["--", "--port=1"], "unknown argument --: it and all arguments after it are ignored"),
    ],
)
def test_unknown_flag_is_named_below_the_usage(arguments, line):
    # Without a model it ends after the usage text, which fills a screen.
    _, shown = run(*arguments)
    lines = shown.splitlines()
    assert any(line in it for it in lines[-4:]), shown[-2000:]
    assert lines[-1].startswith("Failed to start server. Error: ")


def test_help_lists_the_commands():
    status, shown = run("--help")
    assert status == 255
    after = shown[shown.index("Commands") :]
    for command in ("show", "check", "health", "hash_password", "hash_token"):
        assert re.search(rf"\b{command}\b", after), shown
    usage, _ = shown.split("Commands")
    assert usage.startswith("usage: ") and "\t--port=8500" in usage


def test_wrong_argument_of_a_command_is_the_first_line():
    status, shown = run("check", "--dirr=x")
    assert (status, shown.splitlines()[0]) == (2, "error: unexpected argument '--dirr' found")
    assert len(shown.splitlines()) < 8, shown


def test_port_that_is_taken_is_named():
    with socket.socket() as taken:
        taken.bind(("0.0.0.0", 0))
        taken.listen()
        port = taken.getsockname()[1]
        status, shown = run(f"--port={port}", f"--model_base_path={HALF_PLUS_TWO}")
    assert status == 255
    assert f"cannot listen for gRPC on 0.0.0.0:{port} (--port): Address already in use" in shown
    assert shown.endswith("INVALID_ARGUMENT: Failed to BuildAndStart gRPC server\n")


def test_check_names_the_versions_of_a_base_path():
    status, shown = run("check", f"--dir={HALF_PLUS_TWO}")
    assert status == 1
    assert f"Name one of them: {HALF_PLUS_TWO}/1" in shown


def test_made_up_request_that_fails_is_a_warning(start_server, tmp_path):
    shape = np.int64([-1, 2, 2])
    content = model(
        [("Reshape", ["x", "shape"], "y")],
        {"shape": shape},
        inputs={"x": (FLOAT, "n", "m")},
        outputs={"y": (FLOAT, "n", "a", "b")},
    )
    publish(tmp_path / "m", 1, content)
    server = start_server(["--model_name=m", f"--model_base_path={tmp_path / 'm'}"], ["m"])
    lines = [line for line in server.log(None).splitlines() if "made-up warmup request" in line]
    assert len(lines) == 1
    assert ": W " in lines[0] and "serving_default" in lines[0] and "Reshape" in lines[0]
    # The model serves all the same.
    assert server.predict_rest("m", '{"instances": [[1, 2, 3, 4]]}')[0] == 200


def readiness(server):
    status, _, body = server.rest("GET", "/readyz")
    return status, json.loads(body)


@pytest.fixture(scope="module")
def incomplete(start_server, tmp_path_factory):
    """A server with a model that loads and others that do not; and its folder."""
    folder = tmp_path_factory.mktemp("incomplete")
    shutil.copytree(HALF_PLUS_TWO, folder / "good")
    publish(folder / "pointer", 1, POINTER)
    (folder / "saved").mkdir()
    (folder / "saved" / "saved_model.pb").write_bytes(b"\x08\x01")
    (folder / "absent").mkdir()
    publish(folder / "absent", 3, says_its_version(3))
    names = {
        "good": "",
        "pointer": "",
        "saved": "",
        "absent": "model_version_policy { specific { versions: 7 } }",
    }
    configs = (
        f'config {{ name: "{name}" base_path: "{folder / name}" model_platform: "onnx" {more} }}'
        for name, more in names.items()
    )
    config = folder / "models.config"
    config.write_text("model_config_list { %s }" % " ".join(configs))
    flags = [f"--model_config_file={config}", "--wait_for_models=false"]
    return start_server(flags, ["good"]), flags, folder


def test_readyz_says_why_models_are_missing(incomplete):
    server, _, folder = incomplete
    named = f"{folder}/pointer/1/model.onnx is not an ONNX model but a Git LFS pointer"
    status, page = poll(lambda: named in str(readiness(server)) and readiness(server))
    assert status == 503
    assert sorted(page["missing_models"]) == sorted(page["errors"]) == ["absent", "pointer", "saved"]
    assert page["errors"]["pointer"].startswith("version 1, to be tried again: INVALID_ARGUMENT: ")
    assert "itself a TensorFlow SavedModel" in page["errors"]["saved"]
    assert "7. There are: 3." in page["errors"]["absent"]


def test_readyz_keeps_file_names_from_strangers(incomplete, start_server, tmp_path):
    _, flags, _ = incomplete
    auth = tmp_path / "auth.config"
    token = subprocess.run(
        [BINARY, "hash_token"], input="secret-token-1234567890\n", capture_output=True, text=True
    )
    auth.write_text(f'identity {{ name: "a" token_sha256: "{token.stdout.strip()}" }}')
    (admin,) = free_ports(1)
    headers = {"Authorization": "Bearer secret-token-1234567890"}
    more = [f"--auth_config_file={auth}", f"--admin_port={admin}"]
    server = ModelServer([*flags, *more], [], tmp_path / "log", headers=headers)
    try:
        reached = poll(lambda: reach(server))
        assert "errors" not in reached and "pointer" in reached["missing_models"]
        server.rest_port = admin
        assert poll(lambda: "pointer" in readiness(server)[1].get("errors", {}))
    finally:
        server.stop()


def reach(server):
    try:
        return readiness(server)[1]
    except OSError:
        return None


def test_base_path_that_is_a_model_is_named_once(incomplete):
    """Not each second, and without TensorFlow Serving's hint, which is wrong here."""
    server, _, folder = incomplete
    said = "The base path is itself a TensorFlow SavedModel: it holds saved_model.pb."
    poll(lambda: said in server.log(None))
    # A version that appears is found by a later look at all base paths.
    publish(folder / "good", 2, says_its_version(2))
    poll(lambda: "{name: good version: 2}" in server.log(None))
    log = server.log(None)
    assert log.count(said) == 1
    assert log.count("names versions that are not there: 7. There are: 3.") == 1
    assert "leaf directory" not in log


def test_size_that_contradicts_the_declared_one_is_named(start_server, tmp_path):
    content = model(
        [("Transpose", ["x"], "t"), ("Reshape", ["t", "shape"], "y")],
        {"shape": np.int64([2, -1])},
        inputs={"x": (FLOAT, "n")},
        outputs={"y": (FLOAT, "a", "b")},
    )
    publish(tmp_path / "m", 1, content)
    server = start_server(["--model_name=m", f"--model_base_path={tmp_path / 'm'}"], ["m"])
    status, body = server.predict_rest("m", '{"inputs": [[1, 2, 3]]}')
    assert status == 400
    assert "Input 'x' has the shape [1,3], the model declares [-1]" in json.loads(body)["error"]
    # A size that is not fixed is not blamed.
    status, body = server.predict_rest("m", '{"inputs": [1, 2, 3]}')
    assert status == 400 and "declares" not in json.loads(body)["error"]


@pytest.mark.parametrize(
    "content, what", [(POINTER, "a Git LFS pointer"), (b"<!DOCTYPE html><html></html>", "an HTML page")]
)
def test_check_refuses_the_warmup_that_the_server_refuses(tmp_path, content, what):
    """The recorded requests are part of a load."""
    warmup = "assets.extra/tf_serving_warmup_requests"
    base = tmp_path / "m"
    shutil.copytree(HALF_PLUS_TWO / "1", base / "1")
    status, shown = run("check", f"--dir={base / '1'}")
    assert status == 0 and "FAIL" not in shown, shown
    (base / "1" / "assets.extra").mkdir()
    (base / "1" / warmup).write_bytes(content)
    status, shown = run("check", f"--dir={base / '1'}")
    assert status == 1, shown
    (failed,) = (line for line in shown.splitlines() if line.startswith("FAIL"))
    said = failed.split("is not served: ")[1]
    assert said.startswith("corrupted record at 0 (Is this even a TFRecord file?).")
    assert f"{warmup} is {what}" in said
    flags = ["--model_name=m", f"--model_base_path={base}", "--max_num_load_retries=0"]
    _, log = run(*flags, f"--port={free_ports(1)[0]}")
    assert said in log


def test_check_warns_of_batching_parameters_that_are_none(tmp_path):
    """They are read with two flags, which the command does not know of."""
    shutil.copytree(HALF_PLUS_TWO / "1", tmp_path / "1")
    (tmp_path / "1" / "batching_params.pbtxt").write_bytes(POINTER)
    status, shown = run("check", f"--dir={tmp_path / '1'}")
    assert status == 0, shown
    (warning,) = (line for line in shown.splitlines() if line.startswith("warn"))
    assert "--enable_per_model_batching_parameters" in warning and "Git LFS pointer" in warning


def test_check_warns_of_a_method_that_every_request_is_refused(tmp_path):
    shutil.copytree(HALF_PLUS_TWO / "1", tmp_path / "1")
    file = tmp_path / "1" / "signature_map.pbtxt"
    regress = 'signature { name: "serving_default" method_name: "tensorflow/serving/regress" '
    regress += 'input { alias: "inputs" tensor: "x" } output { alias: "outputs" tensor: "y" '
    file.write_text(regress + "} }")
    status, shown = run("check", f"--dir={tmp_path / '1'}")
    assert status == 0 and not any(line.startswith("warn") for line in shown.splitlines()), shown
    file.write_text(regress + "keep: true } }")
    status, shown = run("check", f"--dir={tmp_path / '1'}")
    assert status == 0, shown
    (warning,) = (line for line in shown.splitlines() if line.startswith("warn"))
    assert "signature_def['serving_default']" in warning
    assert warning.endswith("Expected one output Tensor.")
