"""Ten times as many requests as the server can answer: it answers what it can, refuses the rest."""

import os
import threading
import time

import grpc
import numpy as np
import pytest

import onnx_models
from grpc_calls import TIMEOUT, predict_request, prediction
from process_usage import Usage

# `OVERLOAD_SECONDS=60` for the long form.
SECONDS = float(os.environ.get("OVERLOAD_SECONDS", 10))
THREADS, MAX_BATCH, QUEUED_BATCHES = 2, 4, 8
BATCHING = f"""
max_batch_size {{ value: {MAX_BATCH} }}
batch_timeout_micros {{ value: 0 }}
max_enqueued_batches {{ value: {QUEUED_BATCHES} }}
num_batch_threads {{ value: {THREADS} }}
"""
# `Schedule` of TensorFlow's batch scheduler, as recorded: tests/data/golden.
FULL = "The batch scheduling queue to which this task was submitted is full"


class Outcomes:
    """How requests that were sent without waiting for each other ended."""

    def __init__(self):
        self.accepted = []
        self.refused = []
        self.other = []
        self._pending = 0
        self._changed = threading.Condition()

    def watch(self, call):
        begin = time.monotonic()
        with self._changed:
            self._pending += 1
        call.add_done_callback(lambda call: self._note(call, time.monotonic() - begin))

    def wait(self):
        """Waits for the answers to all requests."""
        with self._changed:
            assert self._changed.wait_for(lambda: self._pending == 0, TIMEOUT)

    def _note(self, call, seconds):
        with self._changed:
            self._pending -= 1
            if call.code() == grpc.StatusCode.OK:
                self.accepted.append(seconds)
            elif call.code() == grpc.StatusCode.UNAVAILABLE and call.details().startswith(FULL):
                self.refused.append(seconds)
            else:
                self.other.append((call.code(), call.details()))
            self._changed.notify_all()


class Memory:
    """Samples a server's resident memory until it is left."""

    def __init__(self, server):
        self.samples = []
        self._server = server
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._is_over.set()
        self._thread.join()

    def _run(self):
        while not self._is_over.wait(0.1):
            self.samples.append(Usage(self._server.process.pid).resident)


@pytest.mark.full
def test_overload_is_refused_and_passes(start_server, tmp_path):
    onnx_models.publish(tmp_path / "slow", 1, onnx_models.takes_time(40))
    parameters = tmp_path / "batching.config"
    parameters.write_text(BATCHING)
    flags = ["--model_name=slow", f"--model_base_path={tmp_path / 'slow'}"]
    flags += ["--enable_batching", f"--batching_parameters_file={parameters}"]
    server = start_server([*flags, "--tensorflow_intra_op_parallelism=1"], ["slow"])

    with grpc.insecure_channel(server.grpc_address) as channel:
        predict = prediction(channel).Predict
        capacity = closed_loop(predict, 3)
        with Memory(server) as memory:
            outcomes = open_loop(predict, 10 * capacity, SECONDS)
        after = [closed_loop(predict, 1) for _ in range(2)]

    batch_seconds = THREADS * MAX_BATCH / capacity
    bound = (QUEUED_BATCHES / THREADS + 1) * batch_seconds
    half = len(memory.samples) // 2
    early, late = max(memory.samples[:half]), max(memory.samples[half:])
    print(
        f"capacity {capacity:.0f}/s; {SECONDS:.0f} s of {10 * capacity:.0f}/s: "
        f"{len(outcomes.accepted) / SECONDS:.0f}/s accepted, p99 {p99_ms(outcomes.accepted):.0f} ms "
        f"where the queue explains {bound * 1e3:.0f} ms; "
        f"{len(outcomes.refused) / SECONDS:.0f}/s refused, p99 {p99_ms(outcomes.refused):.1f} ms; "
        f"memory {early / 2**20:.1f} MiB, then {late / 2**20:.1f} MiB; "
        f"in the first second after {after[0]:.0f}/s, then {after[1]:.0f}/s"
    )
    assert outcomes.other == []
    assert len(outcomes.refused) > len(outcomes.accepted) > 0
    assert late <= 1.1 * early


def request():
    return predict_request("slow", x=np.float32([0]))


def closed_loop(predict, seconds):
    """Answers a second to as many clients as make full batches for all threads."""
    counts = []
    begin = time.monotonic()
    end = begin + seconds

    def client():
        count = 0
        while time.monotonic() < end:
            predict(request(), timeout=TIMEOUT)
            count += 1
        counts.append(count)

    threads = [threading.Thread(target=client) for _ in range(2 * THREADS * MAX_BATCH)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    # A client that failed does not count.
    assert len(counts) == len(threads)
    return sum(counts) / (time.monotonic() - begin)


def open_loop(predict, rate, seconds):
    """Sends so many requests a second, whatever comes of them."""
    outcomes = Outcomes()
    message = request()
    begin = time.monotonic()
    for number in range(int(rate * seconds)):
        time.sleep(max(0, begin + number / rate - time.monotonic()))
        outcomes.watch(predict.future(message, timeout=TIMEOUT))
    outcomes.wait()
    return outcomes


def p99_ms(seconds):
    ordered = sorted(seconds)
    return ordered[int(0.99 * (len(ordered) - 1))] * 1e3 if ordered else float("nan")
