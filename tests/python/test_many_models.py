"""200 models of 2 versions from one configuration file."""

import time

import pytest

import onnx_models
from grpc_calls import cpu_seconds

MODELS = 200


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    text = ""
    for number in range(MODELS):
        for version in (1, 2):
            content = onnx_models.says_its_version(version)
            onnx_models.publish(folder / f"m{number}", version, content)
        text += (
            f"config {{ name: 'm{number}' base_path: '{folder / f'm{number}'}' "
            "model_platform: 'onnx' model_version_policy { all {} } }\n"
        )
    file = folder / "models.config"
    file.write_text(f"model_config_list {{\n{text}}}\n")
    return file


def test_all_versions_of_many_models_serve(start_server, config):
    names = [f"m{number}" for number in range(MODELS)]
    begin = time.monotonic()
    server = start_server([f"--model_config_file={config}"], names)
    started = time.monotonic() - begin

    for name in names:
        for version in (1, 2):
            wait_until_available(server, name, version)
            status, body = server.predict_rest(f"{name}/versions/{version}", '{"instances": [0]}')
            assert (status, float(body.split(b"[")[1].split(b"]")[0])) == (200, version)

    print(f"{MODELS} models of 2 versions started in {started:.1f} s")


@pytest.mark.full
def test_cost_of_polling_many_models(start_server, config):
    server = start_server([f"--model_config_file={config}"], [f"m{MODELS - 1}"])
    for number in range(MODELS):
        for version in (1, 2):
            wait_until_available(server, f"m{number}", version)

    seconds, before = 10, cpu_seconds(server.process.pid)
    time.sleep(seconds)
    used = cpu_seconds(server.process.pid) - before

    print(f"polling {MODELS} models each second took {100 * used / seconds:.2f} % of a core")
    # It has polled, and still does.
    onnx_models.publish(config.parent / "m0", 3, onnx_models.says_its_version(3))
    wait_until_available(server, "m0", 3)


def wait_until_available(server, name, version):
    deadline = time.monotonic() + 60
    while True:
        _, _, body = server.rest("GET", f"/v1/models/{name}/versions/{version}")
        if b'"AVAILABLE"' in body:
            return
        assert time.monotonic() < deadline, f"{name} {version}: {body.decode()}"
        time.sleep(0.05)
