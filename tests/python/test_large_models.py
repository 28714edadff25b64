"""A model whose weights do not fit into a protobuf, which ends at 2 GiB."""

import json
import struct

import numpy as np
import pytest

from model_server import peak_memory_mib
from onnx_models import FLOAT, messages, model, publish

ROWS, COLUMNS = 1_200_000, 480
ROW_BYTES = 4 * COLUMNS
WEIGHTS_MIB = ROWS * ROW_BYTES / (1 << 20)


def picks_rows():
    """y = the sum of row x of the weights, which lie in a file of their own; smaller ones do not."""
    nodes = [
        ("Cast", ["x"], "row"),
        ("Gather", ["weights", "row"], "picked"),
        ("ReduceSum", ["picked", "last"], "sum"),
        ("MatMul", ["picked", "zeros"], "nothing"),
        ("ReduceSum", ["nothing", "last"], "no_sum"),
        ("Add", ["sum", "no_sum"], "y"),
    ]
    constants = {"last": np.int64([1]), "zeros": np.zeros((COLUMNS, 64), np.float32)}
    made = messages()["onnx.ModelProto"].FromString(model(nodes, constants))
    made.graph.node[0].attribute.add(name="to", type=2, i=7)
    for node in (made.graph.node[2], made.graph.node[4]):
        node.attribute.add(name="keepdims", type=2, i=0)
    weights = made.graph.initializer.add(name="weights", dims=[ROWS, COLUMNS], data_type=FLOAT)
    weights.data_location = 1
    for key, value in (("location", "weights.data"), ("offset", "0")):
        weights.external_data.add(key=key, value=value)
    return made.SerializeToString()


@pytest.mark.full
def test_more_than_two_gib_of_weights(start_server, tmp_path):
    base_path = tmp_path / "large"
    publish(base_path, 1, picks_rows(), beside={"weights.data": b""})
    with open(base_path / "1" / "weights.data", "r+b") as file:
        # Rows without values take no space on the disk.
        file.truncate(ROWS * ROW_BYTES)
        for row in (0, ROWS - 1):
            file.seek(row * ROW_BYTES)
            file.write(struct.pack("<2f", row, 0.5))
    server = start_server([f"--model_base_path={base_path}", "--model_name=large"], ["large"])
    body = f'{{"instances": [0, 1, {ROWS - 1}]}}'
    status, answer = server.predict_rest("large", body)
    assert (status, json.loads(answer)) == (200, {"predictions": [0.5, 0.0, ROWS - 0.5]})
    # The data read from the file, and ONNX Runtime's copy during the load.
    assert peak_memory_mib(server.process.pid) < 2.5 * WEIGHTS_MIB
