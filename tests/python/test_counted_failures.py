"""Failed requests are counted with the version and signature that they got to."""

import grpc
import pytest

from grpc_calls import TIMEOUT, predict_request, prediction, refused
from model_server import poll


def count(server, **labels):
    """The value of `onnx_model_server_requests_total` for these labels."""
    wanted = [f'{name}="{value}"' for name, value in labels.items()]
    for line in server.rest("GET", "/metrics")[2].decode().splitlines():
        if line.startswith("onnx_model_server_requests_total{"):
            if all(label in line for label in wanted):
                return int(line.split()[-1])
    return 0


@pytest.mark.parametrize(
    ("protocol", "signature", "labels"),
    [
        ("grpc", "", ("1", "serving_default", "INVALID_ARGUMENT")),
        ("rest", "", ("1", "serving_default", "INVALID_ARGUMENT")),
        ("grpc", "invented", ("1", "", "FAILED_PRECONDITION")),
        ("rest", "invented", ("1", "", "INVALID_ARGUMENT")),
    ],
)
def test_failures_have_their_version(server, protocol, signature, labels):
    version, known_signature, code = labels
    labels = dict(
        model="half_plus_two",
        version=version,
        signature=known_signature,
        protocol=protocol,
        method="predict",
        code=code,
    )
    before = count(server, **labels)
    if protocol == "rest":
        body = f'{{"signature_name": "{signature or "serving_default"}", "instances": ["no"]}}'
        assert server.predict_rest("half_plus_two", body)[0] == 400
    else:
        with grpc.insecure_channel(server.grpc_address) as channel:
            request = predict_request("half_plus_two", signature, no=[1.0])
            with refused(getattr(grpc.StatusCode, code)):
                prediction(channel).Predict(request, timeout=TIMEOUT)
    poll(lambda: count(server, **labels) == before + 1)
