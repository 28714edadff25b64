"""Signals: those that stop a server, whatever it is doing, and those that do not."""

import os
import signal
import subprocess
import time

import numpy as np
import pytest
from onnx_models import model, publish, says_its_version

import model_server
from model_server import ModelServer, free_ports, poll

MODEL = model_server.PROJECT / "models" / "half_plus_two"
FLAGS = ["--model_name=half_plus_two", f"--model_base_path={MODEL}"]
BODY = '{"instances": [1.0, 2.0, 5.0]}'


class Starting:
    """A server that a test does not wait for."""

    def __init__(self, flags, log_path, **process):
        self.log_path = log_path
        command = [str(model_server.BINARY), f"--onnxruntime_library={model_server.LIBRARY}"]
        with open(log_path, "wb") as log:
            self.process = subprocess.Popen(
                [*command, *flags], stdout=log, stderr=log, start_new_session=True, **process
            )

    def log(self):
        return self.log_path.read_text()

    def end(self):
        self.process.kill()
        self.process.wait()


def writer_of(fifo):
    """A pipe opened to write to, once somebody waits for what comes; until then `None`."""
    try:
        return os.open(fifo, os.O_WRONLY | os.O_NONBLOCK)
    except OSError:
        return None


@pytest.mark.parametrize("kind", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize(
    "flags",
    [
        ["--model_config_file=FIFO"],
        [*FLAGS, "--enable_batching", "--batching_parameters_file=FIFO"],
        [*FLAGS, "--ssl_config_file=FIFO"],
        [*FLAGS, "--auth_config_file=FIFO"],
        [*FLAGS, "--monitoring_config_file=FIFO"],
        [*FLAGS, "--tensorflow_session_config_file=FIFO"],
    ],
    ids=lambda flags: flags[-1].split("=")[0],
)
def test_a_start_that_waits_for_a_file_is_ended(tmp_path, flags, kind):
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    port, rest_port = free_ports(2)
    flags = [flag.replace("FIFO", str(fifo)) for flag in flags]
    flags += [f"--port={port}", f"--rest_api_port={rest_port}"]
    server = Starting(flags, tmp_path / "log")
    writer = None
    try:
        # Stays open, so that the server waits for the content.
        writer = poll(lambda: writer_of(fifo))
        server.process.send_signal(kind)
        assert server.process.wait(model_server.STOP_SECONDS) == 128 + kind
    finally:
        if writer is not None:
            os.close(writer)
        server.end()


def refused(name, command, env=None):
    """Whether a command ends by itself, because this library is a pipe."""
    ended = subprocess.run(
        [model_server.BINARY, *command], capture_output=True, text=True, timeout=60, env=env, check=False
    )
    said = ended.stdout + ended.stderr
    assert f"cannot load ONNX Runtime: `{name}` is not a regular file." in said, said
    return ended.returncode


def test_a_library_that_is_a_pipe_is_refused(tmp_path):
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    flag, ports = f"--onnxruntime_library={fifo}", [f"--port={free_ports(1)[0]}"]
    assert refused(fifo, [*FLAGS, *ports, flag]) == 255
    environment = {**os.environ, "ORT_DYLIB_PATH": str(fifo)}
    assert refused(fifo, [*FLAGS, *ports], env=environment) == 255
    assert refused(fifo, ["check", "--dir", f"{MODEL}/1", flag]) == 1
    command = [model_server.BINARY, "--version", flag]
    version = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert "ONNX Runtime Library: not found" in version.stdout


WAITS_WHILE_IT_IS_LOADED = """
#include <fcntl.h>
#include <unistd.h>
__attribute__((constructor)) static void wait_for_ever(void) {
    close(open("%s", O_WRONLY | O_CREAT, 0600));
    for (;;) pause();
}
"""


@pytest.mark.parametrize("log_format", ["text", "json"])
@pytest.mark.parametrize("kind", [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT])
def test_a_start_that_waits_in_the_loader_is_ended(tmp_path, kind, log_format):
    """The C library's loader has a lock meanwhile, which new thread-locals of other threads need."""
    library, loading = tmp_path / "waits.so", tmp_path / "loading"
    source = tmp_path / "waits.c"
    source.write_text(WAITS_WHILE_IT_IS_LOADED % loading)
    subprocess.run(["cc", "-shared", "-fPIC", "-o", library, source], check=True)
    flags = [*FLAGS, f"--port={free_ports(1)[0]}", f"--log_format={log_format}"]
    server = Starting([*flags, f"--onnxruntime_library={library}"], tmp_path / "log")
    try:
        poll(loading.exists)
        server.process.send_signal(kind)
        assert server.process.wait(model_server.STOP_SECONDS) == 128 + kind
        assert "Ending: nothing is served yet" in server.log()
    finally:
        server.end()


@pytest.mark.parametrize("kind", [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT])
def test_a_background_job_of_a_shell_is_ended(tmp_path, kind):
    """Shells start such jobs with signals that are ignored."""
    server = ModelServer(
        FLAGS,
        ["half_plus_two"],
        tmp_path / "log",
        preexec_fn=lambda: signal.signal(kind, signal.SIG_IGN),
    )
    try:
        server.process.send_signal(kind)
        assert server.process.wait(model_server.STOP_SECONDS) == 0
    finally:
        server.stop()


LOADING_MODELS = 12
# How long after the start of the first load; most of them interrupt a library at work.
MOMENTS = [0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45]


def slow_to_load():
    """ONNX Runtime multiplies the constants while it makes a session, for a second or so."""
    count = 20
    nodes = [("MatMul", [f"c{i}", "w"], f"c{i + 1}") for i in range(count)]
    nodes = [("MatMul", ["w", "w"], "c0"), *nodes, ("MatMul", ["x", f"c{count}"], "y")]
    weights = {"w": np.eye(600, dtype=np.float32)}
    shape = {"inputs": {"x": (1, "n", "k")}, "outputs": {"y": (1, "n", "k")}}
    return model(nodes, weights, **shape)


@pytest.fixture(scope="module")
def loading_models(tmp_path_factory):
    """A configuration of models that all load at the start."""
    folder = tmp_path_factory.mktemp("loading")
    content = slow_to_load()
    text = ""
    for number in range(LOADING_MODELS):
        base_path = folder / f"m{number}"
        publish(base_path, 1, content)
        text += f"config {{ name: 'm{number}' base_path: '{base_path}' model_platform: 'onnx' }}\n"
    config = folder / "models.config"
    config.write_text(f"model_config_list {{ {text} }}")
    return config


def ends_while_loading(config, log_path, moment, *flags):
    """The status of a server that is stopped so many seconds after its first load began."""
    (port,) = free_ports(1)
    server = Starting([f"--port={port}", f"--model_config_file={config}", *flags], log_path)
    try:
        poll(lambda: "Loading servable version" in server.log())
        if flags:
            poll(lambda: "Entering the event loop" in server.log())
        time.sleep(moment)
        server.process.send_signal(signal.SIGTERM)
        status = server.process.wait(model_server.STOP_SECONDS)
    finally:
        server.end()
    assert server.log().count("Successfully loaded") < LOADING_MODELS, "they are not slow"
    return status


def test_sigterm_while_models_load(tmp_path, loading_models):
    """What loads must not find the library's own data destroyed: no crash, whenever it is."""
    ends = [ends_while_loading(loading_models, tmp_path / "log", moment) for moment in MOMENTS]
    assert ends == [128 + signal.SIGTERM] * len(MOMENTS)


def test_sigterm_while_further_models_load(tmp_path, loading_models):
    """The ports are open, so this is a stop like any other."""
    log, flag = tmp_path / "log", "--wait_for_models=false"
    ends = [ends_while_loading(loading_models, log, moment, flag) for moment in MOMENTS[:4]]
    assert ends == [0] * 4


HARMLESS = [
    "SIGHUP",
    "SIGUSR1",
    "SIGUSR2",
    "SIGALRM",
    "SIGVTALRM",
    "SIGPROF",
    "SIGPIPE",
    "SIGIO",
    "SIGPWR",
    "SIGSTKFLT",
    "SIGXCPU",
    "SIGXFSZ",
    "SIGTTIN",
    "SIGTTOU",
    "SIGURG",
    "SIGWINCH",
    "SIGCHLD",
]


def test_other_signals_do_not_end_the_server(tmp_path):
    server = ModelServer(FLAGS, ["half_plus_two"], tmp_path / "log", start_new_session=True)
    numbers = [int(getattr(signal, name)) for name in HARMLESS if hasattr(signal, name)]
    numbers += [signal.SIGRTMIN, signal.SIGRTMIN + 3, signal.SIGRTMAX]
    try:
        for number in numbers:
            server.process.send_signal(number)
            assert server.predict_rest("half_plus_two", BODY)[0] == 200, number
        assert server.is_running()
        server.process.send_signal(signal.SIGQUIT)
        assert server.process.wait(model_server.STOP_SECONDS) == 0
    finally:
        server.stop()


def test_a_pipe_in_the_place_of_the_configuration_stops_no_reload(tmp_path):
    config = tmp_path / "models.config"

    def put(*names):
        models = "".join(
            f"config {{ name: '{name}' base_path: '{tmp_path / name}' model_platform: 'onnx' }}\n"
            for name in names
        )
        aside = tmp_path / "aside"
        aside.write_text(f"model_config_list {{ {models} }}")
        aside.rename(config)

    for name in ("first", "second"):
        publish(tmp_path / name, 1, says_its_version(1))
    put("first")
    flags = [f"--model_config_file={config}", "--model_config_file_poll_wait_seconds=1"]
    server = ModelServer(flags, ["first"], tmp_path / "log")
    try:
        os.mkfifo(tmp_path / "fifo")
        os.rename(tmp_path / "fifo", config)
        poll(lambda: "not a regular file" in server.log())
        put("first", "second")
        poll(lambda: server.predict_rest("second", b'{"instances": [0]}')[0] == 200)
        os.mkfifo(tmp_path / "fifo")
        os.rename(tmp_path / "fifo", config)
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(model_server.STOP_SECONDS) == 0
    finally:
        server.stop()
