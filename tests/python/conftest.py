"""What the Python tests share: servers that run while tests need them.

A test that fails shows the log of the servers it used.
"""

import os

import grpc
import pytest

from model_server import SHARED, ModelServer, write_models_config

# The servers run on this machine, so no proxy should be asked.
os.environ["NO_PROXY"] = os.environ["no_proxy"] = "127.0.0.1,localhost"

MODELS = ("half_plus_two", "mnist", "siamese", "xor")


def pytest_addoption(parser):
    parser.addoption("--full", action="store_true", help="run the tests that take long, too")
    parser.addoption(
        "--rewrite_pending",
        action="store_true",
        help="write saved_models_pending.txt from the models that do not pass",
    )


def pytest_collection_modifyitems(config, items):
    if config.getoption("--full"):
        return
    for item in items:
        if "full" in item.keywords:
            item.add_marker(pytest.mark.skip(reason="takes long: `make test-full` runs it"))


def must_not_skip(path):
    """Whether CI has installed all that the tests in this file need."""
    return path.name.startswith("test_ops_") and bool(os.environ.get("REQUIRE_TEST_PROGRAMS"))


def fail_instead(report):
    *_, reason = report.longrepr if isinstance(report.longrepr, tuple) else (report.longrepr,)
    report.outcome = "failed"
    report.longrepr = f"REQUIRE_TEST_PROGRAMS is set, and this was not run: {reason}"


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector):
    report = yield
    if report.skipped and must_not_skip(collector.path):
        fail_instead(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    # An expected failure is reported as skipped, too; long tests only run if requested.
    is_meant = hasattr(report, "wasxfail") or "full" in item.keywords
    if report.skipped and not is_meant and must_not_skip(item.path):
        fail_instead(report)
    if report.failed:
        for value in item.funcargs.values():
            if isinstance(value, ModelServer):
                report.sections.append(("the server's log", value.log()))
    return report


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    """The models of this repository, served the way `make serve` does."""
    scratch = tmp_path_factory.mktemp("server")
    config = write_models_config(scratch / "models.config")
    server = ModelServer([f"--model_config_file={config}"], MODELS, scratch / "server.log")
    yield server
    stop_and_check(server)


@pytest.fixture(scope="module")
def start_server(tmp_path_factory):
    """Starts further servers as `ModelServer` does, and stops them after the module."""
    started = []

    def start(flags, models, **options):
        log = tmp_path_factory.mktemp("server") / "server.log"
        started.append(ModelServer(flags, models, log, **options))
        return started[-1]

    yield start
    for server in started:
        stop_and_check(server)


@pytest.fixture(scope="session")
def channel(server):
    """A gRPC channel to `server`."""
    with grpc.insecure_channel(server.grpc_address) as channel:
        yield channel


@pytest.fixture(scope="session")
def shared():
    """The developers' material, a folder outside the repository; skips if it is not there."""
    if not SHARED.is_dir():
        pytest.skip(f"{SHARED} is not there")
    return SHARED


def stop_and_check(server):
    """Stops `server`; it must have been running until then."""
    was_running = server.is_running()
    server.stop()
    assert was_running, f"the server had ended during the tests; its log:\n{server.log()}"
