"""What happens to a call on its way: deadlines, cancellation, compression, bounds, long texts.

The model `slow` of `tests/data/grpc` counts for as long as a request says.
"""

import threading
import time
import zlib

import grpc
import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import (
    get_model_status_pb2,
    model_service_pb2_grpc,
    predict_pb2,
)

from grpc_calls import (
    ENDLESS,
    TIMEOUT,
    cpu_seconds,
    model_flags,
    predict_request,
    prediction,
    refused,
    slow_request,
)

DEADLINE_EXCEEDED = grpc.StatusCode.DEADLINE_EXCEEDED
# TensorFlow's.
TIMED_OUT = "Timed out waiting for notification"


@pytest.fixture(scope="module")
def slow(start_server):
    return start_server(model_flags("slow"), ["slow"])


@pytest.fixture(scope="module")
def channel(slow):
    with grpc.insecure_channel(slow.grpc_address) as channel:
        yield channel


@pytest.fixture(scope="module")
def stub(channel):
    return prediction(channel)


def wait_until_idle(server):
    """Waits until the server uses no processor time any more; runs end soon after their calls."""
    deadline = time.monotonic() + TIMEOUT
    while True:
        before = cpu_seconds(server.process.pid)
        time.sleep(0.5)
        if cpu_seconds(server.process.pid) - before < 0.1:
            return
        assert time.monotonic() < deadline, "something still runs"


def wait_until_busy(server):
    deadline = time.monotonic() + TIMEOUT
    start = cpu_seconds(server.process.pid)
    while cpu_seconds(server.process.pid) - start < 0.1:
        assert time.monotonic() < deadline, "nothing runs"
        time.sleep(0.02)


# Deadlines.


def with_timeout_header(stub, request, value):
    """A client that waits longer than it tells the server; else it would answer for itself."""
    call = stub.Predict.future(request, metadata=[("grpc-timeout", value)])
    return call.result(TIMEOUT)


def test_a_run_ends_in_time(stub):
    response = stub.Predict(slow_request(1000), timeout=TIMEOUT)
    assert list(response.outputs["y"].int64_val) == [1000]


def test_deadline_stops_the_run(slow, stub):
    started = time.monotonic()
    with refused(DEADLINE_EXCEEDED):
        stub.Predict(slow_request(ENDLESS), timeout=0.5)
    assert time.monotonic() - started < 5
    wait_until_idle(slow)


def test_expiry_has_the_originals_text(slow, stub):
    with refused(DEADLINE_EXCEEDED, TIMED_OUT):
        with_timeout_header(stub, slow_request(ENDLESS), "300m")
    wait_until_idle(slow)


@pytest.mark.parametrize("value", ["", "x", "5", "-5S", "123456789S"])
def test_malformed_timeouts_are_ignored(stub, value):
    response = with_timeout_header(stub, slow_request(10), value)
    assert list(response.outputs["y"].int64_val) == [10]


def test_deadline_that_is_over_on_arrival(slow, stub):
    with refused(DEADLINE_EXCEEDED):
        with_timeout_header(stub, slow_request(ENDLESS), "1n")
    wait_until_idle(slow)


# Cancellation.


def test_cancelled_call_stops_its_run(slow, stub):
    call = stub.Predict.future(slow_request(ENDLESS))
    wait_until_busy(slow)
    assert call.cancel()
    assert call.code() == grpc.StatusCode.CANCELLED
    wait_until_idle(slow)


def test_vanished_connection_stops_its_runs(slow):
    channel = grpc.insecure_channel(slow.grpc_address)
    calls = [prediction(channel).Predict.future(slow_request(ENDLESS)) for _ in range(3)]
    wait_until_busy(slow)
    channel.close()
    wait_until_idle(slow)
    assert all(call.done() for call in calls)


def test_calls_do_not_wait_for_each_other(slow, stub):
    """Slow calls may keep all processors busy; a quick one is answered beside them."""
    calls = [stub.Predict.future(slow_request(ENDLESS)) for _ in range(4)]
    wait_until_busy(slow)
    response = stub.Predict(slow_request(10), timeout=TIMEOUT)
    assert list(response.outputs["y"].int64_val) == [10]
    for call in calls:
        assert not call.done()
        call.cancel()
    wait_until_idle(slow)


# `--grpc_max_threads`.


def test_calls_beyond_the_bound_wait(start_server):
    server = start_server([*model_flags("slow"), "--grpc_max_threads=1"], ["slow"])
    with grpc.insecure_channel(server.grpc_address) as channel:
        predict = prediction(channel).Predict
        running = predict.future(slow_request(ENDLESS))
        wait_until_busy(server)

        # Calls wait until their own deadline,
        with refused(DEADLINE_EXCEEDED, TIMED_OUT):
            with_timeout_header(prediction(channel), slow_request(10), "300m")
        # or until they are cancelled,
        cancelled = predict.future(slow_request(ENDLESS))
        time.sleep(0.2)
        cancelled.cancel()
        # or until there is room. Calls that need no run are answered immediately.
        waiting = predict.future(slow_request(10), timeout=TIMEOUT)
        status = model_service_pb2_grpc.ModelServiceStub(channel).GetModelStatus
        request = get_model_status_pb2.GetModelStatusRequest()
        request.model_spec.name = "slow"
        assert status(request, timeout=TIMEOUT).model_version_status[0].version == 1
        assert not waiting.done()
        running.cancel()
        assert list(waiting.result(TIMEOUT).outputs["y"].int64_val) == [10]
    wait_until_idle(server)


# Compression.


def x_of_zeros(count):
    return predict_request("half_plus_two", x=np.zeros(count, np.float32))


@pytest.mark.parametrize("compression", [grpc.Compression.Gzip, grpc.Compression.Deflate])
def test_compressed_requests_are_read(server, compression):
    with grpc.insecure_channel(server.grpc_address, compression=compression) as channel:
        response = prediction(channel).Predict(x_of_zeros(500_000), timeout=TIMEOUT)
    assert tf.make_ndarray(response.outputs["y"]).tolist() == [2.0] * 500_000


def test_answers_are_not_compressed(server):
    """As in the original: they arrive in their own length."""
    options = [("grpc.max_receive_message_length", 1000)]
    with grpc.insecure_channel(
        server.grpc_address, compression=grpc.Compression.Gzip, options=options
    ) as channel:
        with refused(grpc.StatusCode.RESOURCE_EXHAUSTED, contains="larger than max"):
            prediction(channel).Predict(x_of_zeros(1000), timeout=TIMEOUT)


def test_damaged_compression_is_refused(server):
    """A message that says it is compressed and is not, over a connection of bytes."""
    for body in (b"\x01" + len(b"nonsense").to_bytes(4, "big") + b"nonsense",):
        with grpc.insecure_channel(server.grpc_address) as channel:
            # Not compressed by the client, which assumes that it sends plain bytes.
            call = channel.unary_unary("/tensorflow.serving.PredictionService/Predict")
            with refused(grpc.StatusCode.INTERNAL):
                call(zlib.compress(body), timeout=TIMEOUT)


# Texts.


def test_long_texts_are_cut(server):
    """At 1024 bytes, as in the original, but never within a character."""
    with grpc.insecure_channel(server.grpc_address) as channel:
        predict = prediction(channel).Predict
        prefix = "Servable not found for request: Latest("
        for name in ("x" * 5000, "é" * 3000, "😀" * 1500):
            request = predict_pb2.PredictRequest()
            request.model_spec.name = name
            with refused(grpc.StatusCode.NOT_FOUND) as caught:
                predict(request, timeout=TIMEOUT)
            kept, mark = caught.value.details()[: -len("...TRUNCATED")], "...TRUNCATED"
            assert caught.value.details().endswith(mark)
            assert 1024 - 3 <= len(kept.encode()) <= 1024
            assert (prefix + name).startswith(kept)


def test_texts_of_the_full_length_are_whole(server):
    prefix = "Servable not found for request: Latest("
    name = "x" * (1024 - len(prefix) - 1)
    with grpc.insecure_channel(server.grpc_address) as channel:
        request = predict_pb2.PredictRequest()
        request.model_spec.name = name
        with refused(grpc.StatusCode.NOT_FOUND, f"{prefix}{name})"):
            prediction(channel).Predict(request, timeout=TIMEOUT)


def test_many_calls_at_once_on_one_connection(server):
    with grpc.insecure_channel(server.grpc_address) as channel:
        predict = prediction(channel).Predict
        answers, lock = [], threading.Lock()

        def ask(number):
            request = predict_request("half_plus_two", x=np.float32([number]))
            (y,) = predict(request, timeout=TIMEOUT).outputs["y"].float_val
            with lock:
                answers.append((number, y))

        threads = [threading.Thread(target=ask, args=(number,)) for number in range(64)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert sorted(answers) == [(number, number / 2 + 2) for number in range(64)]
