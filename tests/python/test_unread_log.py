"""Outputs that nobody reads, that are closed or full: the server does not notice, and says later
what is missing."""

import fcntl
import http.client
import json
import os
import re
import signal
import subprocess
import threading

import grpc
import pytest
from grpc_calls import ENDLESS, model_flags, prediction, slow_request

import model_server
from model_server import ModelServer, free_ports, poll

MODEL = model_server.PROJECT / "models" / "half_plus_two"
FLAGS = ["--model_name=half_plus_two", f"--model_base_path={MODEL}"]
PATH = "/v1/models/half_plus_two:predict"
BODY = '{"instances": [1.0, 2.0, 5.0]}'
DROPPED = re.compile(r"(\d+) log lines were dropped because")
PIPE_BYTES = 4096


class StoppedReader:
    """A pipe that is full from the start. What is written to it can be read later."""

    def __init__(self):
        self.reader, self.writer = os.pipe()
        fcntl.fcntl(self.writer, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        os.set_blocking(self.writer, False)
        try:
            while True:
                os.write(self.writer, b"\n" * PIPE_BYTES)
        except BlockingIOError:
            pass
        os.set_blocking(self.writer, True)
        self.text = b""
        self.thread = None

    def resume(self):
        """Reads all there is and all that comes, until the server has ended."""
        os.close(self.writer)
        self.writer = None
        self.thread = threading.Thread(target=self._read, daemon=True)
        self.thread.start()

    def _read(self):
        while piece := os.read(self.reader, 1 << 16):
            self.text += piece

    def lines(self):
        return [line for line in self.text.decode().splitlines() if line]

    def close(self):
        if self.writer is not None:
            os.close(self.writer)
        if self.thread:
            self.thread.join(30)
        os.close(self.reader)


@pytest.fixture
def stopped():
    pipe = StoppedReader()
    yield pipe
    pipe.close()


def start(tmp_path, flags, models=("half_plus_two",), **process):
    return ModelServer(flags, models, tmp_path / "out.log", **process)


def dropped_lines(server):
    """What the page says."""
    page = server.rest("GET", "/metrics")[2].decode()
    name = "onnx_model_server_log_lines_dropped_total "
    (line,) = [line for line in page.splitlines() if line.startswith(name)]
    return int(line.removeprefix(name))


def admin(port, path):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.request("GET", path)
        return connection.getresponse().status
    finally:
        connection.close()


def check_serves(server, admin_port):
    for path in ("/healthz", "/readyz", "/metrics"):
        assert server.rest("GET", path)[0] == 200
        assert admin(admin_port, path) == 200
    assert server.predict_rest("half_plus_two", BODY)[0] == 200


def send_requests(server, count, request_id):
    """On one connection; the lines about them are long."""
    connection = server.rest_connection()
    for _ in range(count):
        connection.request("POST", PATH, BODY, {"X-Request-Id": request_id})
        reply = connection.getresponse()
        assert reply.status == 200
        reply.read()
    connection.close()


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_requests_are_answered_while_nobody_reads_their_lines(tmp_path, stopped, log_format):
    (admin_port,) = free_ports(1)
    flags = ["--access_log=all", f"--log_format={log_format}", f"--admin_port={admin_port}"]
    server = start(tmp_path, [*FLAGS, *flags], stderr=stopped.writer)
    sent = 0
    try:
        while dropped_lines(server) == 0:
            send_requests(server, 500, "x" * 128)
            sent += 500
            assert sent <= 20_000, "the lines wait somewhere without a bound"
        check_serves(server, admin_port)
        assert dropped_lines(server) > 0

        stopped.resume()
        poll(lambda: DROPPED.search(stopped.text.decode()))
        send_requests(server, 1, "the-reader-is-back")
        poll(lambda: b"the-reader-is-back" in stopped.text)
        counted = dropped_lines(server)
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(model_server.STOP_SECONDS) == 0
    finally:
        server.stop()
    stopped.thread.join(30)
    lines = stopped.lines()
    reported = sum(int(it[1]) for it in DROPPED.finditer(stopped.text.decode()))
    assert reported == counted
    # Each line is complete, and either present or counted.
    if log_format == "json":
        events = [json.loads(line) for line in lines]
        assert any(DROPPED.match(event["message"]) for event in events)
    else:
        shape = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{6}: [IWE] \S+\] ")
        assert [line for line in lines if not shape.match(line)] == []
    written = sum("x" * 128 in line for line in lines)
    assert sent - counted <= written < sent


def test_warnings_that_nobody_reads_stop_nothing(tmp_path, stopped):
    """Nothing but the defaults: a model whose folder is empty is warned of each second."""
    (tmp_path / "empty").mkdir()
    models = [("half_plus_two", MODEL), ("empty", tmp_path / "empty")]
    config = tmp_path / "models.config"
    text = "".join(
        f"config {{ name: '{name}' base_path: '{path}' model_platform: 'onnx' }}\n"
        for name, path in models
    )
    config.write_text(f"model_config_list {{ {text} }}")
    (admin_port,) = free_ports(1)
    flags = [f"--model_config_file={config}", "--wait_for_models=false"]
    server = start(tmp_path, [*flags, f"--admin_port={admin_port}"], stderr=stopped.writer)
    try:
        for _ in range(5):
            # Checks for missing models, which the poll knows.
            for _ in range(20):
                assert server.rest("GET", "/readyz")[0] == 503
                assert admin(admin_port, "/readyz") == 503
            assert server.rest("GET", "/healthz")[0] == 200
            assert admin(admin_port, "/metrics") == 200
            assert server.predict_rest("half_plus_two", BODY)[0] == 200
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(model_server.STOP_SECONDS) == 0
    finally:
        server.stop()


def test_a_second_signal_needs_no_reader(tmp_path, stopped):
    flags = [*model_flags("slow"), "--access_log=all"]
    server = start(tmp_path, flags, ["slow"], stderr=stopped.writer)
    try:
        with grpc.insecure_channel(server.grpc_address) as channel:
            call = prediction(channel).Predict.future(slow_request(ENDLESS), timeout=60)
            metric = b'onnx_model_server_requests_in_flight{model="slow"'
            poll(lambda: metric in server.rest("GET", "/metrics")[2])
            server.process.send_signal(signal.SIGTERM)
            poll(lambda: refuses(server.rest_port))
            server.process.send_signal(signal.SIGTERM)
            assert server.process.wait(model_server.STOP_SECONDS) == 128 + signal.SIGTERM
            assert call.exception().code() == grpc.StatusCode.UNAVAILABLE
    finally:
        server.stop()


def refuses(port):
    try:
        admin(port, "/healthz")
    except (ConnectionError, http.client.HTTPException):
        return True
    return False


def test_stdout_that_nobody_reads_stops_nothing(tmp_path, stopped):
    """An unknown flag prints the usage and goes on."""
    flags = [*FLAGS, "--no_such_flag=1"]
    server = start(tmp_path, flags, stdout=stopped.writer, stderr=None)
    try:
        assert server.predict_rest("half_plus_two", BODY)[0] == 200
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(model_server.STOP_SECONDS) == 0
    finally:
        server.stop()


@pytest.mark.parametrize(
    "arguments, status",
    [(["--version"], 0), (["--help"], 255), (["--model_base_path=/no/such"], 255)],
)
def test_a_start_that_fails_needs_no_reader(stopped, arguments, status):
    command = [str(model_server.BINARY), f"--onnxruntime_library={model_server.LIBRARY}"]
    command += [*arguments, "--ssl_config_file=/no/such/file"]
    ended = subprocess.run(
        command, stdout=stopped.writer, stderr=stopped.writer, timeout=model_server.STOP_SECONDS
    )
    assert ended.returncode == status


def gone_reader():
    reader, writer = os.pipe()
    os.close(reader)
    return writer


@pytest.mark.parametrize(
    "open_output", [gone_reader, lambda: os.open("/dev/full", os.O_WRONLY)], ids=["gone", "no room"]
)
def test_lines_that_cannot_be_written_are_counted(tmp_path, open_output):
    output = open_output()
    try:
        server = start(tmp_path, [*FLAGS, "--access_log=all"], stderr=output)
    finally:
        os.close(output)
    try:
        poll(lambda: dropped_lines(server) > 0)
        send_requests(server, 10, "a")
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(model_server.STOP_SECONDS) == 0
    finally:
        server.stop()


def test_closed_outputs_stop_nothing(tmp_path):
    close = lambda: (os.close(1), os.close(2))  # noqa: E731
    server = start(tmp_path, [*FLAGS, "--access_log=all"], preexec_fn=close)
    try:
        send_requests(server, 10, "a")
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(model_server.STOP_SECONDS) == 0
    finally:
        server.stop()


def test_the_last_lines_are_written_before_the_end(tmp_path):
    """The log's end is there although the process leaves at once."""
    server = start(tmp_path, FLAGS)
    server.process.send_signal(signal.SIGTERM)
    assert server.process.wait(model_server.STOP_SECONDS) == 0
    assert "Stopping after the requests in flight are answered" in server.log()
    server = start(tmp_path, [*FLAGS, "--access_log=all"])
    send_requests(server, 200, "last-lines")
    server.process.send_signal(signal.SIGABRT)
    assert server.process.wait(model_server.STOP_SECONDS) == -signal.SIGABRT
    # The line of the last request might not be written yet.
    assert server.log(limit=None).count("last-lines") >= 199
