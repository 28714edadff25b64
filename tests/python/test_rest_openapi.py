"""The server keeps what its OpenAPI document promises: schemathesis asks, made-up calls included.

The checks compare each answer's status, media type and body with the document. Left out are those
that ask for other habits than TensorFlow Serving's (such as 405 for a method that a path has not).
"""

import json
import pathlib
import subprocess
import sys

import pytest

SCHEMATHESIS = pathlib.Path(sys.executable).with_name("schemathesis")

CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
)
EXAMPLES = 10
SECONDS = 300

# With the name of an existing model, so that calls get past the lookup, and with any name.
CONFIGS = {
    "a model": '[parameters]\n"path.model" = "half_plus_two"\n',
    "any model": "",
}


@pytest.mark.parametrize("case", CONFIGS)
def test_answers_are_as_documented(server, tmp_path, case):
    config = tmp_path / "schemathesis.toml"
    config.write_text(CONFIGS[case])
    command = [
        SCHEMATHESIS,
        f"--config-file={config}",
        "--no-color",
        "run",
        f"{server.rest_url}/openapi.json",
        f"--checks={','.join(CHECKS)}",
        "--phases=examples,fuzzing",
        f"--max-examples={EXAMPLES}",
        "--generation-deterministic",
        "--suppress-health-check=all",
        "--continue-on-failure",
        "--warnings=off",
    ]

    ended = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=SECONDS)

    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert server.is_running()


def test_the_document_is_found(server):
    status, headers, body = server.rest("GET", "/openapi.json")
    assert status == 200
    assert headers["Content-Type"] == "application/json"
    assert b'"openapi": "3.1.0"' in body


def test_the_document_has_every_page_of_the_port(server):
    _, _, body = server.rest("GET", "/openapi.json")
    paths = json.loads(body)["paths"]
    for path in ("/healthz", "/readyz", "/metrics", "/openapi.json"):
        status, headers, answer = server.rest("GET", path)
        documented = paths[path]["get"]["responses"][str(status)]["content"]
        assert headers["Content-Type"].split(";")[0] in documented, path
    schema = paths["/readyz"]["get"]["responses"]["503"]["content"]["application/json"]["schema"]
    assert schema == {"$ref": "#/components/schemas/Readiness"}
    _, _, answer = server.rest("GET", "/readyz")
    assert json.loads(answer)["missing_models"] == []
