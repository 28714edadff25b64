"""Answers that are ready before the body was read, through proxies and by the clients of others.

`test_early_answers.py` has all the kinds of such answers; here a few of them do.
"""

import contextlib
import http.client
import subprocess

import pytest

from certificates import Authority, write_ssl_config
from model_server import MODELS_FOLDER, PROJECT, free_ports, poll
from programs import program

FLAGS = ["--model_name=half_plus_two", f"--model_base_path={MODELS_FOLDER / 'half_plus_two'}"]
MISTYPED = "/v1/models/half_plus_two/predict"
PREDICT = "/v1/models/half_plus_two:predict"
ROW = b'{"instances": [1.0]}'
MB = 1_000_000
SECONDS = 60
JAVA = PROJECT / "tests" / "python" / "EarlyAnswer.java"


@pytest.fixture(scope="module")
def server(start_server):
    return start_server(FLAGS, ["half_plus_two"])


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("pki") / "ours")


@pytest.fixture(scope="module")
def over_tls(start_server, authority, tmp_path_factory):
    config = tmp_path_factory.mktemp("tls") / "ssl.config"
    write_ssl_config(config, authority.sign("server"))
    flags = [*FLAGS, f"--ssl_config_file={config}", "--rest_api_use_ssl"]
    return start_server(flags, ["half_plus_two"], context=authority.context())


@contextlib.contextmanager
def running(command, port):
    """A proxy that serves this port."""
    process = subprocess.Popen(command)
    try:
        poll(lambda: process.poll() is not None or accepts(port))
        assert process.poll() is None, command
        yield port
    finally:
        process.terminate()
        process.wait(SECONDS)


def accepts(port):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=SECONDS)
    try:
        connection.connect()
    except OSError:
        return False
    connection.close()
    return True


@pytest.fixture(scope="module", params=["on", "off"])
def nginx(request, server, tmp_path_factory):
    """The port of an nginx that takes requests whole first, or hands them on as they come."""
    folder = tmp_path_factory.mktemp("nginx")
    [port] = free_ports(1)
    paths = "".join(
        f"{name}_temp_path {folder}/{name};\n"
        for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    (folder / "nginx.conf").write_text(f"""
        daemon off;
        user root;
        worker_processes 1;
        pid {folder}/pid;
        error_log {folder}/error.log;
        events {{}}
        http {{
            access_log off;
            client_max_body_size 0;
            {paths}
            upstream models {{
                server 127.0.0.1:{server.rest_port};
                keepalive 8;
            }}
            server {{
                listen 127.0.0.1:{port};
                location / {{
                    proxy_pass http://models;
                    proxy_http_version 1.1;
                    proxy_set_header Connection "";
                    proxy_request_buffering {request.param};
                }}
            }}
        }}
    """)
    command = [program("nginx"), "-c", folder / "nginx.conf", "-e", folder / "error.log"]
    with running(command, port):
        yield port


@pytest.fixture(scope="module")
def haproxy(server, tmp_path_factory):
    """The port of an HAProxy that hands requests on as they come."""
    [port] = free_ports(1)
    config = tmp_path_factory.mktemp("haproxy") / "haproxy.cfg"
    config.write_text(f"""
defaults
    mode http
    timeout connect 10s
    timeout client 60s
    timeout server 60s
listen models
    bind 127.0.0.1:{port}
    http-reuse always
    server models 127.0.0.1:{server.rest_port}
""")
    with running([program("haproxy"), "-db", "-f", config], port):
        yield port


def statuses(port, requests):
    """What one connection is answered."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=SECONDS)
    try:
        for path, body in requests:
            connection.request("POST", path, body=body)
            reply = connection.getresponse()
            reply.read()
            yield reply.status
    finally:
        connection.close()


SIZES = pytest.mark.parametrize("size", [200_000, 20 * MB])


def check_proxied(port, size):
    requests = [(MISTYPED, bytes(size)), ("/nothing", bytes(size)), (PREDICT, ROW)]
    for _ in range(5):
        assert list(statuses(port, requests)) == [400, 404, 200]


@SIZES
def test_behind_nginx(nginx, size):
    check_proxied(nginx, size)


@SIZES
def test_behind_haproxy(haproxy, size):
    check_proxied(haproxy, size)


def java(version, url, expects_continue, sizes, *options):
    command = [program("java"), *options, JAVA, version, url, expects_continue, *map(str, sizes)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.mark.parametrize("expects_continue", ["true", "false"])
def test_java(server, expects_continue):
    sizes = [10, 200_000, 20 * MB, 200 * MB, 10]
    answers = java("HTTP_1_1", server.rest_url + MISTYPED, expects_continue, sizes)
    assert answers == ["HTTP_1_1 400"] * len(sizes)


def test_java_on_http2(over_tls, authority, tmp_path):
    keytool = program("java").replace("bin/java", "bin/keytool")
    store = tmp_path / "trusted"
    command = [keytool, "-importcert", "-noprompt", "-file", authority.certificate, "-alias", "ours"]
    subprocess.run([*command, "-keystore", store, "-storepass", "secret"], check=True)
    trusts = [f"-Djavax.net.ssl.trustStore={store}", "-Djavax.net.ssl.trustStorePassword=secret"]
    sizes = [10, 200_000, 20 * MB, 200 * MB, 10]
    answers = java("HTTP_2", over_tls.rest_url + MISTYPED, "false", sizes, *trusts)
    assert answers == ["HTTP_2 400"] * len(sizes)


@pytest.mark.parametrize("version", ["--http1.1", "--http2-prior-knowledge"])
def test_curl(server, tmp_path, version):
    """On HTTP/1 several requests on one connection, each with `Expect: 100-continue`."""
    each = [version, "-sS", "--max-time", str(SECONDS), "-w", "%{http_code}\n", "-o", "/dev/null"]
    each += ["--data-binary", f"@{tmp_path / 'body'}"]
    calls = [[*each, server.rest_url + path] for path in (MISTYPED, "/nothing", MISTYPED)]
    if version == "--http1.1":
        calls = [[*calls[0], "--next", *calls[1], "--next", *calls[2]]]
    for size in (200_000, 20 * MB, 200 * MB):
        (tmp_path / "body").write_bytes(bytes(size))
        answers = []
        for call in calls:
            command = [program("curl"), *call]
            done = subprocess.run(command, capture_output=True, text=True, timeout=4 * SECONDS)
            assert done.returncode == 0, done.stderr
            answers += done.stdout.split()
        assert answers == ["400", "404", "400"]
