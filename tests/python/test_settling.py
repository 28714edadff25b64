"""Version directories that are written while the server looks: it loads what has settled, waits for
files that the serving version has, and loads again what changes later.

The models say `x + version`. Their signature map calls the input `a`; without the map it is `x`.
"""

import json
import shutil
import threading
import time

import grpc
import pytest
from tensorflow_serving.apis import model_management_pb2
from tensorflow_serving.apis import model_service_pb2_grpc

import onnx_models
from grpc_calls import LOAD_TIMEOUT
from model_server import poll

MAP = b"""signature { name: "serving_default"
  input { alias: "a" tensor: "x" } output { alias: "y" tensor: "y" } }"""
OTHER_MAP = MAP.replace(b'"a"', b'"b"')


def flags(base_path, *more):
    return ["--model_name=m", f"--model_base_path={base_path}", *more]


def ask(server, alias):
    """What the model says to 0 under this alias; None where it has no such input."""
    body = json.dumps({"instances": [{alias: 0.0}]})
    status, reply = server.predict_rest("m", body)
    return json.loads(reply)["predictions"][0] if status == 200 else None


def states(server):
    """The states of all versions by number."""
    _, _, body = server.rest("GET", "/v1/models/m")
    versions = json.loads(body)["model_version_status"]
    return {int(version["version"]): version["state"] for version in versions}


class Client:
    """Asks all the time under one alias, and keeps what was said."""

    def __init__(self, server, alias):
        self.server, self.alias = server, alias
        self.answers = []
        self.is_over = threading.Event()
        self.thread = threading.Thread(target=self.run)

    def run(self):
        while not self.is_over.wait(0.02):
            self.answers.append(ask(self.server, self.alias))

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.is_over.set()
        self.thread.join()


@pytest.fixture
def base_path(tmp_path):
    path = tmp_path / "m"
    onnx_models.publish(path, 1, onnx_models.says_its_version(1), beside={"signature_map.pbtxt": MAP})
    return path


def write_slowly(file, content, seconds):
    """Writes a file in pieces, as a copy over a slow network does."""
    pieces = 8
    size = -(-len(content) // pieces)
    with open(file, "wb") as output:
        for start in range(0, len(content), size):
            output.write(content[start : start + size])
            output.flush()
            time.sleep(seconds / pieces)


def test_a_version_waits_for_the_map_that_the_serving_one_has(start_server, base_path):
    server = start_server(flags(base_path), ["m"])
    assert ask(server, "a") == 1
    with Client(server, "a") as client:
        (base_path / "2").mkdir()
        (base_path / "2/model.onnx").write_bytes(onnx_models.says_its_version(2))
        time.sleep(3)
        (base_path / "2/signature_map.pbtxt").write_bytes(MAP)
        poll(lambda: ask(server, "a") == 2, LOAD_TIMEOUT)
        poll(lambda: states(server).get(1) == "END")
        poll(lambda: 2 in client.answers)
    # Every answer comes from the one version or the other.
    assert set(client.answers) == {1, 2}
    text = "files that the serving version 1 has: signature_map.pbtxt"
    poll(lambda: text in server.log(None))


def test_a_version_without_a_map_is_loaded_in_the_end(start_server, base_path):
    server = start_server(flags(base_path, "--companion_files_wait_seconds=3"), ["m"])
    onnx_models.publish(base_path, 2, onnx_models.says_its_version(2))
    time.sleep(1.5)
    assert ask(server, "a") == 1
    poll(lambda: ask(server, "x") == 2, LOAD_TIMEOUT)
    text = "loads without files that the serving version 1 has: signature_map.pbtxt"
    poll(lambda: text in server.log(None))


def fill_in_place(file):
    """The map lies there at its full size, and is written later."""
    file.write_bytes(b"\n" * len(MAP))
    yield
    with open(file, "r+b") as output:
        output.write(MAP)


def write_in_parts(file):
    """The map has other signatures first."""
    other = MAP.replace(b"serving_default", b"other")
    file.write_bytes(other)
    yield
    file.write_bytes(other + MAP)


def write_half(file):
    file.write_bytes(MAP[: len(MAP) // 2])
    yield
    file.write_bytes(MAP)


def comment_first(file):
    file.write_bytes(b"# The signatures\n\n")
    yield
    file.write_bytes(MAP)


@pytest.mark.parametrize("write", [fill_in_place, write_in_parts, write_half, comment_first])
@pytest.mark.parametrize("version", [1, 2])
def test_a_map_that_is_not_written_yet_is_waited_for(start_server, base_path, version, write):
    server = start_server(flags(base_path), ["m"])
    directory = base_path / str(version)
    directory.mkdir(exist_ok=True)
    with Client(server, "a") as client:
        steps = write(directory / "signature_map.pbtxt")
        next(steps)
        (directory / "model.onnx").write_bytes(onnx_models.says_its_version(2))
        time.sleep(4)
        next(steps, None)
        poll(lambda: ask(server, "a") == 2, LOAD_TIMEOUT)
        poll(lambda: 2 in client.answers)
    assert set(client.answers) == {1, 2}
    assert "failed" not in server.log(None)


@pytest.mark.parametrize("pause", [0.9, 1.5])
def test_the_wait_for_a_map_counts_from_the_last_change(start_server, base_path, pause):
    server = start_server(flags(base_path, "--companion_files_wait_seconds=4"), ["m"])
    content = onnx_models.says_its_version(2)
    with Client(server, "a") as client:
        (base_path / "2").mkdir()
        with open(base_path / "2/model.onnx", "wb") as output:
            size = -(-len(content) // 6)
            for start in range(0, len(content), size):
                output.write(content[start : start + size])
                output.flush()
                time.sleep(pause)
        time.sleep(1)
        assert ask(server, "x") is None
        (base_path / "2/signature_map.pbtxt").write_bytes(MAP)
        poll(lambda: ask(server, "a") == 2, LOAD_TIMEOUT)
        poll(lambda: 2 in client.answers)
    assert set(client.answers) == {1, 2}
    assert "failed" not in server.log(None)


def test_no_wait_for_files_can_be_asked_for(start_server, base_path):
    server = start_server(flags(base_path, "--companion_files_wait_seconds=0"), ["m"])
    onnx_models.publish(base_path, 2, onnx_models.says_its_version(2))
    poll(lambda: ask(server, "x") == 2, LOAD_TIMEOUT)
    assert "waits up to" not in server.log(None)


def test_a_map_that_changes_later_is_loaded_again(start_server, base_path):
    server = start_server(flags(base_path), ["m"])
    assert ask(server, "a") == 1
    seen = set()
    (base_path / "1/signature_map.pbtxt").write_bytes(OTHER_MAP)
    deadline = time.monotonic() + LOAD_TIMEOUT
    while ask(server, "b") != 1:
        seen.add(states(server)[1])
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert seen <= {"AVAILABLE"}


def test_a_map_deleted_under_a_serving_version_changes_nothing(start_server, base_path):
    server = start_server(flags(base_path), ["m"])
    (base_path / "1/signature_map.pbtxt").unlink()
    time.sleep(4)
    assert ask(server, "a") == 1


def test_a_map_that_comes_later_is_loaded(start_server, tmp_path):
    base_path = tmp_path / "m"
    onnx_models.publish(base_path, 1, onnx_models.says_its_version(1))
    server = start_server(flags(base_path), ["m"])
    assert ask(server, "x") == 1
    time.sleep(2)
    (base_path / "1/signature_map.pbtxt").write_bytes(MAP)
    poll(lambda: ask(server, "a") == 1, LOAD_TIMEOUT)
    assert states(server) == {1: "AVAILABLE"}


def test_a_change_that_cannot_be_loaded_leaves_what_serves(start_server, base_path):
    server = start_server(flags(base_path, "--companion_files_wait_seconds=0"), ["m"])
    with Client(server, "a") as client:
        (base_path / "1/signature_map.pbtxt").write_bytes(b"signature {")
        poll(lambda: "signature_map.pbtxt" in server.log(None), LOAD_TIMEOUT)
        time.sleep(1)
    assert set(client.answers) == {1}
    assert states(server) == {1: "AVAILABLE"}
    (base_path / "1/signature_map.pbtxt").write_bytes(OTHER_MAP)
    poll(lambda: ask(server, "b") == 1, LOAD_TIMEOUT)


def test_a_model_that_is_written_slowly_is_loaded_whole(start_server, base_path):
    server = start_server(flags(base_path), ["m"])
    (base_path / "2").mkdir()
    (base_path / "2/signature_map.pbtxt").write_bytes(MAP)
    write_slowly(base_path / "2/model.onnx", onnx_models.says_its_version(2), 4)
    poll(lambda: ask(server, "a") == 2, LOAD_TIMEOUT)
    # The server did not try to load an incomplete version.
    assert "Loading servable: {name: m version: 2} failed" not in server.log(None)


def test_a_version_renamed_into_place_loads_soon(start_server, base_path):
    server = start_server(flags(base_path), ["m"])
    begin = time.monotonic()
    files = {"signature_map.pbtxt": MAP}
    onnx_models.publish(base_path, 2, onnx_models.says_its_version(2), beside=files)
    poll(lambda: ask(server, "a") == 2, LOAD_TIMEOUT)
    print(f"available {time.monotonic() - begin:.2f} s after the rename")
    assert "waits up to" not in server.log(None)


def reload_config(server, base_path):
    request = model_management_pb2.ReloadConfigRequest()
    model = request.config.model_config_list.config.add()
    model.name, model.base_path = "m", str(base_path)
    # As in --model_base_path.
    model.model_platform = "tensorflow"
    with grpc.insecure_channel(server.grpc_address) as channel:
        stub = model_service_pb2_grpc.ModelServiceStub(channel)
        return stub.HandleReloadConfigRequest(request, timeout=LOAD_TIMEOUT).status


@pytest.mark.parametrize("seconds", [0, 1])
def test_a_reload_waits_for_files_to_settle(start_server, tmp_path, seconds):
    config = tmp_path / "models.config"
    config.write_text("model_config_list {}")
    poll_flag = f"--file_system_poll_wait_seconds={seconds}"
    server = start_server([f"--model_config_file={config}", poll_flag], [])
    poll(lambda: "Entering the event loop" in server.log(None))
    version = tmp_path / "m/1"
    version.mkdir(parents=True)
    content = onnx_models.says_its_version(1)
    writer = threading.Thread(target=write_slowly, args=(version / "model.onnx", content, 1))
    writer.start()
    assert reload_config(server, tmp_path / "m").error_code == 0
    writer.join()
    assert ask(server, "x") == 1
    assert "Loading servable: {name: m version: 1} failed" not in server.log(None)


def test_without_polls_a_start_looks_twice(start_server, base_path):
    server = start_server(flags(base_path, "--file_system_poll_wait_seconds=0"), ["m"])
    assert ask(server, "a") == 1
    files = {"signature_map.pbtxt": MAP}
    onnx_models.publish(base_path, 2, onnx_models.says_its_version(2), beside=files)
    time.sleep(2)
    assert ask(server, "a") == 1
    assert reload_config(server, base_path).error_code == 0
    poll(lambda: ask(server, "a") == 2, LOAD_TIMEOUT)


def rewrite_file_by_file(directory):
    for name in ["model.onnx", "signature_map.pbtxt"]:
        (directory / name).unlink()
        time.sleep(1.5)
    (directory / "model.onnx").write_bytes(onnx_models.says_its_version(2))
    time.sleep(3)
    (directory / "signature_map.pbtxt").write_bytes(MAP)


def exchange_directory(directory):
    shutil.rmtree(directory)
    time.sleep(0.3)
    directory.mkdir()
    (directory / "model.onnx").write_bytes(onnx_models.says_its_version(2))
    time.sleep(3)
    (directory / "signature_map.pbtxt").write_bytes(MAP)


@pytest.mark.parametrize("rewrite", [rewrite_file_by_file, exchange_directory])
def test_a_serving_version_that_is_rewritten_serves_throughout(start_server, base_path, rewrite):
    server = start_server(flags(base_path), ["m"])
    with Client(server, "a") as client:
        rewrite(base_path / "1")
        poll(lambda: ask(server, "a") == 2, LOAD_TIMEOUT)
        poll(lambda: 2 in client.answers)
    # Every answer uses the map, and none is missing.
    assert set(client.answers) == {1, 2}
    assert states(server) == {1: "AVAILABLE"}


def test_a_version_that_comes_back_waits_for_what_it_had(start_server, base_path):
    server = start_server(flags(base_path), ["m"])
    directory = base_path / "1"
    shutil.rmtree(directory)
    poll(lambda: states(server)[1] == "END", LOAD_TIMEOUT)
    directory.mkdir()
    (directory / "model.onnx").write_bytes(onnx_models.says_its_version(2))
    time.sleep(3)
    assert ask(server, "x") is None
    (directory / "signature_map.pbtxt").write_bytes(MAP)
    poll(lambda: ask(server, "a") == 2, LOAD_TIMEOUT)


def test_deleting_the_file_that_broke_a_second_load_is_noticed(start_server, base_path):
    server = start_server(flags(base_path, "--max_num_load_retries=0"), ["m"])
    directory = base_path / "1"
    (directory / "batching_params.pbtxt").write_bytes(b"rubbish {{")
    (directory / "saved_model.pb").write_bytes(b"no SavedModel")
    (directory / "model.onnx").write_bytes(onnx_models.says_its_version(2))
    text = "the version that was loaded before goes on serving"
    poll(lambda: text in server.log(None), LOAD_TIMEOUT)
    assert ask(server, "a") == 1
    (directory / "saved_model.pb").unlink()
    (directory / "batching_params.pbtxt").unlink()
    poll(lambda: ask(server, "a") == 2, LOAD_TIMEOUT)
