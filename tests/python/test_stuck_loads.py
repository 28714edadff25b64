"""Loads that wait, never end or are refused: other models load, configurations change, and no file
from elsewhere is read.
"""

import os
import shutil
import signal
import subprocess

import pytest

import model_server
from onnx_models import FLOAT, messages, publish, says_its_version
from test_faults import Models, wait_until

LOAD_SECONDS = 3
SECRET = "a_secret_of_another_user"
WARMUP = "assets.extra/tf_serving_warmup_requests"
PARAMETERS = "batching_params.pbtxt"
# The files that a version can have in addition to its model.
COMPANIONS = [
    "signature_map.pbtxt",
    "saved_model.pb",
    PARAMETERS,
    WARMUP,
    "weights.data",
    "labels.txt",
]
LABELS = b"signature { output { alias: 'y' labels { file: 'labels.txt' } } }"


def endless():
    """On the equation of this Einsum, ONNX Runtime loops as long as the process lives."""
    model = messages()["onnx.ModelProto"](ir_version=8)
    model.opset_import.add(version=13)
    model.graph.name = "graph"
    tensor = model.graph.input.add(name="x").type.tensor_type
    tensor.elem_type = FLOAT
    tensor.shape.dim.add(dim_param="n")
    model.graph.output.add(name="y").type.tensor_type.elem_type = FLOAT
    node = model.graph.node.add(op_type="Einsum", input=["x"], output=["y"])
    node.attribute.add(name="equation", type=3, s=b"....")
    return model.SerializeToString()


def with_external_data():
    """y = x + w, where w is in a file of its own."""
    model = messages()["onnx.ModelProto"].FromString(says_its_version(1))
    (weight,) = model.graph.initializer
    weight.ClearField("raw_data")
    weight.data_location = 1
    weight.external_data.add(key="location", value="weights.data")
    return model.SerializeToString()


@pytest.fixture
def start(start_server, tmp_path):
    def start(*flags):
        return Models(start_server, tmp_path, flags)

    return start


def error_of(models, name):
    wait_until(lambda: '"END"' in models.status(name))
    return models.status(name)


def test_version_that_waits_for_a_retry_holds_up_no_other(start):
    # The defaults: five more tries, a minute apart.
    models = start("--max_num_load_retries=5")
    with models.serving():
        models.add("broken", content=b"not a model")
        wait_until(lambda: '"LOADING"' in models.status("broken"))
        models.add("good")
        models.await_answer("good", 1)
        assert '"LOADING"' in models.status("broken")

        # Once it is repaired, it does not wait for the minute either.
        file = models.folder / "broken" / "1" / "model.onnx"
        file.write_bytes(says_its_version(1))
        models.await_answer("broken", 1)


def test_load_that_does_not_end_is_given_up(start):
    models = start(f"--model_load_timeout_seconds={LOAD_SECONDS}")
    with models.serving():
        models.add("endless", content=endless())
        models.add("good")
        said = error_of(models, "endless")
        assert "DEADLINE_EXCEEDED" in said and "--model_load_timeout_seconds" in said
        models.await_answer("good", 1)
        log = models.server.log(limit=None)
        assert log.count("failed: DEADLINE_EXCEEDED") == 1

        # A new version of the same model is tried again, and so are changed files.
        publish(models.folder / "endless", 2, says_its_version(2))
        models.await_answer("endless", 2)
        models.add("mended", content=endless())
        error_of(models, "mended")
        file = models.folder / "mended" / "1" / "model.onnx"
        file.write_bytes(says_its_version(1))
        models.await_answer("mended", 1)


def test_model_is_removed_while_its_load_does_not_end(start):
    models = start()
    with models.serving():
        models.add("endless", content=endless())
        wait_until(lambda: '"LOADING"' in models.status("endless"))
        models.names.remove("endless")
        models.add("good")
        models.await_answer("good", 1)
        assert "CANCELLED" in error_of(models, "endless")

        # The same version comes back with other content.
        shutil.rmtree(models.folder / "endless")
        models.add("endless")
        models.await_answer("endless", 1)


def test_server_stops_while_a_load_does_not_end(tmp_path):
    def start_server(flags, names):
        return model_server.ModelServer(flags, names, tmp_path / "server.log")

    models = Models(start_server, tmp_path)
    try:
        models.add("endless", content=endless())
        wait_until(lambda: '"LOADING"' in models.status("endless"))
        models.server.process.send_signal(signal.SIGTERM)
        models.server.process.wait(timeout=model_server.STOP_SECONDS)
    finally:
        models.server.stop()


def replace(models, name, companion, make):
    """A model whose companion file is made by `make`."""
    content = {"weights.data": with_external_data()}.get(companion)
    beside = {"signature_map.pbtxt": LABELS} if companion == "labels.txt" else None
    base_path = models.folder / name
    publish(models.folder / "aside", 1, content or says_its_version(1), beside=beside)
    path = models.folder / "aside" / "1" / companion
    path.parent.mkdir(exist_ok=True)
    path.unlink(missing_ok=True)
    make(path)
    (models.folder / "aside").rename(base_path)
    models.names.append(name)
    models.write_config()


def test_no_file_of_a_version_is_waited_for(start):
    """A pipe without a writer in place of each file."""
    models = start("--enable_batching", "--enable_per_model_batching_parameters")
    with models.serving():
        for number, companion in enumerate(["model.onnx", *COMPANIONS]):
            name = f"pipe{number}"
            replace(models, name, companion, os.mkfifo)
            said = error_of(models, name)
            assert "it is not a regular file" in said or "no ONNX model" in said, (companion, said)


def test_no_file_elsewhere_is_read(start):
    """A link out of the base path in place of each file, and of the folder of recorded requests."""
    models = start("--enable_batching", "--enable_per_model_batching_parameters")
    secret = models.folder / "secret"
    secret.mkdir()
    kinds = ["model.onnx", *COMPANIONS]
    for kind in kinds:
        file = secret / os.path.basename(kind)
        file.write_text(f"{SECRET}:x:0:0\n")
    with models.serving():
        for number, companion in enumerate(kinds):
            name = f"link{number}"
            target = secret / os.path.basename(companion)
            replace(models, name, companion, lambda path, target=target: path.symlink_to(target))
            said = error_of(models, name)
            assert "leads out of its directory" in said, (companion, said)
            assert SECRET not in said

        def link_folder(path):
            path.parent.rmdir()
            path.parent.symlink_to(secret)

        replace(models, "folder", WARMUP, link_folder)
        assert "leads out of its directory" in error_of(models, "folder")
    assert SECRET not in models.server.log(limit=None)


def test_changed_version_is_loaded_again_in_place(start):
    models = start()
    with models.serving():
        models.add("changed")
        models.await_answer("changed", 1)
        file = models.folder / "changed" / "1" / "model.onnx"
        file.write_bytes(says_its_version(7))
        models.await_answer("changed", 7)
        assert '"AVAILABLE"' in models.status("changed")

        file.write_bytes(b"not a model")
        models.await_log("the version that was loaded before goes on serving")
        assert models.answer("changed") == 7
        assert '"AVAILABLE"' in models.status("changed")


def check(version, *arguments):
    """The command `check` for a version's directory, ended."""
    command = [model_server.BINARY, "check", "--dir", version, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_check_of_a_load_that_does_not_end_is_given_up(tmp_path):
    publish(tmp_path / "endless", 1, endless())
    bound = f"--model_load_timeout_seconds={LOAD_SECONDS}"
    checked = check(tmp_path / "endless" / "1", bound)
    assert checked.returncode == 1, checked
    said = f"endless/1 was not loaded and run within {LOAD_SECONDS} s"
    assert "DEADLINE_EXCEEDED" in checked.stderr and said in checked.stderr

    publish(tmp_path / "good", 1, says_its_version(1))
    checked = check(tmp_path / "good" / "1", bound)
    assert checked.returncode == 0, checked


def calling_twice(levels):
    """Functions that each call the next one twice: 2 to the power of `levels` nodes."""
    model = messages()["onnx.ModelProto"].FromString(says_its_version(1))
    model.opset_import.add(domain="d", version=1)
    del model.graph.node[:], model.graph.initializer[:]
    (output,) = (value.name for value in model.graph.output)
    (source,) = (value.name for value in model.graph.input)
    model.graph.node.add(op_type="F0", domain="d", input=[source], output=[output])
    for level in range(levels):
        function = model.functions.add(name=f"F{level}", domain="d", input=["a"], output=["b"])
        for domain, version in (("", 13), ("d", 1)):
            function.opset_import.add(domain=domain, version=version)
        callee = {"op_type": f"F{level + 1}", "domain": "d"}
        if level == levels - 1:
            callee = {"op_type": "Relu"}
        function.node.add(input=["a"], output=["c"], **callee)
        function.node.add(input=["c"], output=["b"], **callee)
    return model.SerializeToString()


def test_functions_that_expand_without_bounds_are_refused(start):
    models = start("--max_num_load_retries=0")
    with models.serving():
        models.add("bomb", content=calling_twice(30))
        said = error_of(models, "bomb")
        assert "functions expand to more than 65536 nodes" in said
        models.add("few", content=calling_twice(5))
        models.await_answer("few", 0)


def test_no_file_of_a_version_is_read_beyond_its_bound(start):
    """A terabyte of nothing in place of each file."""

    def huge(path):
        with open(path, "wb") as file:
            file.truncate(1 << 40)

    models = start("--enable_batching", "--enable_per_model_batching_parameters")
    with models.serving():
        for number, companion in enumerate(["model.onnx", *COMPANIONS]):
            name = f"huge{number}"
            replace(models, name, companion, huge)
            said = error_of(models, name)
            kept = companion in (WARMUP, "weights.data")
            assert kept or "it is larger than" in said, (companion, said)


def test_flat_model_called_as_a_version_stays_in_its_base_path(start):
    """`/models/42/model.onnx`: what lies beside the base path is not the model's."""
    models = start()
    secret = models.folder / "secret.pbtxt"
    secret.write_text(f"{SECRET}: 0\n")
    base_path = models.folder / "42"
    base_path.mkdir()
    (base_path / "signature_map.pbtxt").symlink_to("../secret.pbtxt")
    (base_path / "model.onnx").write_bytes(says_its_version(1))
    models.names.append("42")
    with models.serving():
        models.write_config()
        said = error_of(models, "42")
        assert "leads out of its directory" in said
        assert SECRET not in said
        (base_path / "signature_map.pbtxt").unlink()
        models.await_answer("42", 1)
    assert SECRET not in models.server.log(limit=None)


def test_link_to_everything_holds_up_nothing(start):
    """A folder of the version that is a link to the root of the file system."""
    models = start()
    with models.serving():
        publish(models.folder / "aside", 1, says_its_version(1))
        (models.folder / "aside" / "1" / "everything").symlink_to("/")
        (models.folder / "aside" / "1" / "above").symlink_to("..")
        (models.folder / "aside").rename(models.folder / "linked")
        models.names.append("linked")
        models.write_config()
        models.await_answer("linked", 1)
        # Other versions do not affect it.
        publish(models.folder / "linked", 2, says_its_version(2))
        models.await_answer("linked", 2)
        log = models.server.log(limit=None)
        assert "files under a version directory" not in log
        assert "Replaced servable version" not in log
