"""A good client beside each kind of bad luck: it is answered all the time."""

import time

import numpy as np

import attacks
import onnx_models
from crowd import Crowd
from good_client import serves_meanwhile
from model_server import MODELS_FOLDER
from onnx_models import FLOAT

SECONDS = 5
# The server's own memory, and the growth that is allowed.
MAX_MIB = 250


def start(start_server, folder, flags=(), others=None, **options):
    """A server of `half_plus_two`, which the good client calls, and of other models by base path."""
    others = others or {}
    paths = {"half_plus_two": MODELS_FOLDER / "half_plus_two", **others}
    models = "".join(
        f"config {{ name: '{name}' base_path: '{path}' model_platform: 'onnx' }}\n"
        for name, path in paths.items()
    )
    config = folder / "models.config"
    config.write_text(f"model_config_list {{\n{models}}}\n")
    return start_server([f"--model_config_file={config}", *flags], list(paths), **options)


def check(server, *clients):
    """The good client is answered while these act, and each of them gets what it expects."""
    crowd = Crowd(clients)
    with serves_meanwhile(server, ", ".join(client.name for client in clients), MAX_MIB), crowd:
        time.sleep(SECONDS)
    assert crowd.complaints() == []
    assert all(crowd.counts().values())


def test_beside_a_stopped_reader_of_the_log(start_server, tmp_path):
    reader = attacks.LogReader(tmp_path / "log")
    server = start(start_server, tmp_path, ["--access_log=all"], stdout=reader.write_end)
    reader.close()
    check(server, attacks.StoppingLogReader(reader, SECONDS))


def test_beside_versions_that_do_not_load(start_server, tmp_path):
    base_path = tmp_path / "breaking"
    onnx_models.publish(base_path, 1, onnx_models.says_its_version(1))
    server = start(start_server, tmp_path, others={"breaking": base_path})
    check(server, attacks.BreakingModel(base_path))


def test_beside_inputs_of_ranks_that_end_a_kernel(start_server, tmp_path):
    shape = (FLOAT, "time", "batch", "depth")
    attributes = {"batch_axis": 1, "time_axis": 0}
    model = onnx_models.model(
        [("ReverseSequence", ["x", "lengths"], "y", attributes)],
        {"lengths": np.int64([1])},
        {"x": shape},
        {"y": shape},
    )
    onnx_models.publish(tmp_path / "ranked", 1, model)
    server = start(start_server, tmp_path, others={"ranked": tmp_path / "ranked"})
    check(server, attacks.WrongRanks(server, "ranked"))


def test_beside_bodies_for_paths_that_do_not_exist(start_server, tmp_path):
    server = start(start_server, tmp_path)
    check(server, *(attacks.UnreadBodies(server) for _ in range(2)))
