"""SavedModels that others published, served from the unconverted directory: TensorFlow's answers over gRPC.

A test is skipped, and says so, where the package registry cannot be reached.
"""

import grpc
import numpy as np
import pytest
import tensorflow as tf

from grpc_calls import TIMEOUT, predict_request, prediction
from published_models import SIGNATURE, NotReachable, published_models


def parameters():
    for model in published_models():
        marks = [pytest.mark.full] if model.large else []
        yield pytest.param(model, id=model.name, marks=marks)


@pytest.mark.parametrize("model", parameters())
def test_answers_as_tensorflow(model, start_server, tmp_path):
    base_path = tmp_path / model.name
    try:
        model.unpack(base_path / "1")
    except NotReachable as error:
        pytest.skip(f"pip cannot download {model.package} {model.version}: {error}")
    server = start_server(
        [f"--model_name={model.name}", f"--model_base_path={base_path}"], [model.name]
    )
    recorded = model.recorded()
    assert len(recorded) == len(model.cases)
    with grpc.insecure_channel(server.grpc_address) as channel:
        for case, expected in enumerate(recorded):
            request = predict_request(model.name, SIGNATURE, **model.inputs(case))
            outputs = prediction(channel).Predict(request, timeout=TIMEOUT).outputs
            check_same(model, case, outputs, expected)


def check_same(model, case, outputs, expected):
    """Compares the answer to a case with TensorFlow's: all outputs, their dtypes, shapes and elements."""
    assert set(outputs) == set(expected), case
    for alias, wanted in expected.items():
        answer = tf.make_ndarray(outputs[alias])
        assert answer.dtype == wanted["sample"].dtype, (case, alias)
        assert answer.shape == tuple(wanted["shape"]), (case, alias)
        np.testing.assert_allclose(
            model.sample(answer),
            wanted["sample"],
            atol=model.tolerance["abs"],
            rtol=model.tolerance["rel"],
            err_msg=f"case {case}, {alias}",
        )
