"""TLS on both ports: with the real clients, with `openssl s_client`, and while keys are exchanged."""

import socket
import ssl
import subprocess
import threading
import time

import grpc
import pytest
import requests

from certificates import Authority, context, write_ssl_config
from grpc_calls import TIMEOUT, predict_request, prediction
from model_server import BINARY, CALL_SECONDS, PROJECT

MODEL = [
    "--model_name=half_plus_two",
    f"--model_base_path={PROJECT / 'models' / 'half_plus_two'}",
]
PREDICT = "/v1/models/half_plus_two:predict"
BODY = '{"instances": [1.0, 2.0, 5.0]}'
# TensorFlow Serving's own example, and its answer.
ANSWER = {"predictions": [2.5, 3.0, 4.5]}
# The longest time until a change of a file is noticed.
NOTICE_SECONDS = 60


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("pki") / "ours")


@pytest.fixture(scope="module")
def stranger(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("pki") / "strangers", "stranger")


@pytest.fixture(scope="module")
def tls(start_server, authority, tmp_path_factory):
    """TLS on both ports and on a Unix socket; any client will do."""
    folder = tmp_path_factory.mktemp("tls")
    config = write_ssl_config(folder / "ssl.config", authority.sign("server"))
    flags = [
        *MODEL,
        f"--ssl_config_file={config}",
        "--rest_api_use_ssl",
        f"--grpc_socket_path={folder / 'grpc.sock'}",
    ]
    server = start_server(flags, ["half_plus_two"], context=authority.context())
    server.socket_path = folder / "grpc.sock"
    return server


@pytest.fixture(scope="module")
def mutual(start_server, authority, tmp_path_factory):
    """TLS on both ports; clients have to have a certificate of the authority."""
    folder = tmp_path_factory.mktemp("mutual")
    config = write_ssl_config(folder / "ssl.config", authority.sign("mutual"), authority)
    flags = [*MODEL, f"--ssl_config_file={config}", "--rest_api_use_ssl"]
    ours = authority.context(authority.sign("client"))
    return start_server(flags, ["half_plus_two"], context=ours)


def credentials(authority, certificate=None):
    key = certificate.key.read_bytes() if certificate else None
    chain = certificate.certificate.read_bytes() if certificate else None
    return grpc.ssl_channel_credentials(authority.certificate.read_bytes(), key, chain)


def predict_grpc(address, credentials, **options):
    options = [*options.items()]
    channel = grpc.secure_channel(address, credentials, options)
    with channel:
        response = prediction(channel).Predict(
            predict_request("half_plus_two", x=[1.0, 2.0, 5.0]), timeout=TIMEOUT
        )
    return list(response.outputs["y"].float_val)


def check_grpc_refused(address, credentials):
    with pytest.raises(grpc.RpcError) as refusal:
        predict_grpc(address, credentials)
    assert refusal.value.code() == grpc.StatusCode.UNAVAILABLE


def s_client(port, *arguments):
    """What `openssl s_client` says about a port, with its exit status."""
    command = ["openssl", "s_client", "-connect", f"127.0.0.1:{port}", *map(str, arguments)]
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=CALL_SECONDS
    )
    return done.returncode, done.stdout + done.stderr


def test_grpc_client_over_tls(tls, authority):
    assert predict_grpc(tls.grpc_address, credentials(authority)) == [2.5, 3.0, 4.5]


def test_grpc_client_over_tls_on_a_unix_socket(tls, authority):
    options = {"grpc.ssl_target_name_override": "localhost"}
    address = f"unix:{tls.socket_path}"
    assert predict_grpc(address, credentials(authority), **options) == [2.5, 3.0, 4.5]


def test_rest_client_over_tls(tls, authority):
    reply = requests.post(
        tls.rest_url + PREDICT, BODY, verify=str(authority.certificate), timeout=TIMEOUT
    )
    assert (reply.status_code, reply.json()) == (200, ANSWER)


def test_start_says_that_tls_is_used(tls):
    assert "Using SSL credentials" in tls.log(None)


@pytest.mark.parametrize(
    "port, offered, chosen",
    [
        ("grpc_port", "h2", "ALPN protocol: h2"),
        ("grpc_port", "http/1.1,h2", "ALPN protocol: h2"),
        ("grpc_port", None, "No ALPN negotiated"),
        ("grpc_port", "http/1.1", "alert no application protocol"),
        ("rest_port", "h2,http/1.1", "ALPN protocol: h2"),
        ("rest_port", "http/1.1", "ALPN protocol: http/1.1"),
        ("rest_port", None, "No ALPN negotiated"),
        ("rest_port", "spdy/1", "alert no application protocol"),
    ],
)
def test_alpn(tls, port, offered, chosen):
    alpn = ["-alpn", offered] if offered else []
    _, said = s_client(getattr(tls, port), *alpn)
    assert chosen in said, said


@pytest.mark.parametrize("port", ["grpc_port", "rest_port"])
@pytest.mark.parametrize("version, expected", [("tls1_2", True), ("tls1_3", True), ("tls1_1", False)])
def test_versions_of_tls(tls, authority, port, version, expected):
    # OpenSSL itself offers old versions only at its lowest security level.
    ciphers = ["-cipher", "DEFAULT:@SECLEVEL=0"]
    code, said = s_client(
        getattr(tls, port), f"-{version}", *ciphers, "-CAfile", authority.certificate,
        "-verify_return_error",
    )
    assert (code == 0) == expected, said
    assert ("Verify return code: 0 (ok)" if expected else "SSL alert number") in said


def test_rest_speaks_http2_where_alpn_says_so(tls, authority):
    command = ["curl", "-sS", "--http2", "--cacert", str(authority.certificate)]
    command += ["-w", "\n%{http_version} %{http_code}", "-d", BODY, tls.rest_url + PREDICT]
    done = subprocess.run(command, capture_output=True, text=True, timeout=CALL_SECONDS)
    assert done.stdout.endswith("\n2 200"), done


def test_a_client_that_trusts_another_authority_refuses(tls, stranger, authority):
    check_grpc_refused(tls.grpc_address, credentials(stranger))
    with pytest.raises(requests.exceptions.SSLError):
        requests.post(
            tls.rest_url + PREDICT, BODY, verify=str(stranger.certificate), timeout=TIMEOUT
        )
    assert predict_grpc(tls.grpc_address, credentials(authority)) == [2.5, 3.0, 4.5]


@pytest.mark.parametrize("port", ["grpc_port", "rest_port"])
@pytest.mark.parametrize(
    "sent", [b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"]
)
def test_plain_text_is_refused_at_once(tls, authority, port, sent):
    address = ("127.0.0.1", getattr(tls, port))
    with socket.create_connection(address, timeout=CALL_SECONDS) as connection:
        connection.sendall(sent)
        received = b"".join(iter(lambda: connection.recv(4096), b""))
    # A fatal alert (RFC 8446, section 6), and the end of the connection.
    assert (received[0], received[5], len(received)) == (21, 2, 7)
    assert predict_grpc(tls.grpc_address, credentials(authority)) == [2.5, 3.0, 4.5]


def test_a_plain_grpc_client_is_refused(tls):
    with grpc.insecure_channel(tls.grpc_address) as channel:
        with pytest.raises(grpc.RpcError) as refusal:
            prediction(channel).Predict(predict_request("half_plus_two", x=[1.0]), timeout=TIMEOUT)
    assert refusal.value.code() == grpc.StatusCode.UNAVAILABLE


def test_an_expired_server_certificate_is_refused_by_clients(start_server, authority, tmp_path):
    expired = authority.sign("expired-server", expired=True)
    config = write_ssl_config(tmp_path / "ssl.config", expired)
    server = start_server([*MODEL, f"--ssl_config_file={config}"], ["half_plus_two"])
    check_grpc_refused(server.grpc_address, credentials(authority))
    code, said = s_client(
        server.grpc_port, "-CAfile", authority.certificate, "-verify_return_error"
    )
    assert code != 0 and "certificate has expired" in said
    assert "server_cert is expired" in server.log(None)


def test_mutual_tls_takes_clients_of_the_authority(mutual, authority):
    ours = authority.sign("robot")
    assert predict_grpc(mutual.grpc_address, credentials(authority, ours)) == [2.5, 3.0, 4.5]
    reply = requests.post(
        mutual.rest_url + PREDICT,
        BODY,
        verify=str(authority.certificate),
        cert=ours.files,
        timeout=TIMEOUT,
    )
    assert (reply.status_code, reply.json()) == (200, ANSWER)


def test_mutual_tls_refuses_other_clients(mutual, authority, stranger):
    cases = {
        "no": (None, "certificate required"),
        "stranger": (stranger.sign("robot"), "unknown ca"),
        "expired": (authority.sign("expired-client", expired=True), "certificate expired"),
    }
    for name, (certificate, alert) in cases.items():
        check_grpc_refused(mutual.grpc_address, credentials(authority, certificate))
        client = authority.context(certificate)
        with pytest.raises(ssl.SSLError) as refusal:
            with socket.create_connection(("127.0.0.1", mutual.rest_port), TIMEOUT) as connection:
                with client.wrap_socket(connection, server_hostname="localhost") as stream:
                    # With TLS 1.3 a client notices it at its first read.
                    stream.recv(1)
        assert alert in str(refusal.value).replace("_", " ").lower(), name
    ours = authority.sign("robot-again")
    assert predict_grpc(mutual.grpc_address, credentials(authority, ours)) == [2.5, 3.0, 4.5]


@pytest.mark.parametrize(
    "content, expected",
    [
        (None, "ssl.config; No such file or directory"),
        ("server_key: -----BEGIN", "Invalid protobuf file"),
        ("server_key: 'x' server_cert: 'y'", "server_cert holds no certificates in PEM form"),
        (
            "server_key: 'x' server_cert: '-----BEGIN CERTIFICATE-----\\nAAAA\\n'",
            "server_cert cannot be read: its first certificate is damaged or cut off",
        ),
    ],
)
def test_a_broken_file_stops_the_start(tmp_path, content, expected):
    config = tmp_path / "ssl.config"
    if content:
        config.write_text(content)
    done = subprocess.run(
        [BINARY, *MODEL, f"--ssl_config_file={config}"],
        capture_output=True,
        text=True,
        timeout=CALL_SECONDS,
    )
    assert done.returncode == 255
    assert "Failed to start server. Error: " in done.stdout and expected in done.stdout
    assert "BEGIN" not in done.stdout + done.stderr


class Load:
    """Clients that call without a pause, on threads of their own, until they are stopped."""

    def __init__(self, calls):
        """`calls` makes each thread's call: a function without arguments that fails by raising."""
        self.failures = []
        self.counts = [0] * len(calls)
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._run, args=(index, call), daemon=True)
            for index, call in enumerate(calls)
        ]
        for thread in self._threads:
            thread.start()

    def _run(self, index, call):
        while not self._stop.is_set():
            try:
                call()
                self.counts[index] += 1
            except Exception as failure:  # noqa: BLE001: any error counts
                self.failures.append(failure)

    def go_on(self, calls):
        """Waits until each thread has made so many more calls, or any has failed."""
        goals = [count + calls for count in self.counts]
        wait_until(
            lambda: self.failures
            or all(count >= goal for count, goal in zip(self.counts, goals))
        )

    def stop(self):
        self._stop.set()
        for thread in self._threads:
            thread.join(CALL_SECONDS)
            assert not thread.is_alive()


def wait_until(condition):
    deadline = time.monotonic() + NOTICE_SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def served_by(port, trusted):
    """The common name of the certificate that a new connection is served with."""
    with socket.create_connection(("127.0.0.1", port), CALL_SECONDS) as connection:
        with trusted.wrap_socket(connection, server_hostname="localhost") as stream:
            return dict(pair for (pair,) in stream.getpeercert()["subject"])["commonName"]


def test_rotation_under_load(start_server, authority, stranger, tmp_path):
    """New handshakes use the new certificate, a broken one changes nothing, and no call fails."""
    config = write_ssl_config(tmp_path / "ssl.config", authority.sign("first"))
    trusted = context([authority, stranger])
    server = start_server(
        [*MODEL, f"--ssl_config_file={config}", "--rest_api_use_ssl"],
        ["half_plus_two"],
        context=trusted,
    )
    roots = authority.certificate.read_bytes() + stranger.certificate.read_bytes()
    both = grpc.ssl_channel_credentials(roots)
    # By default channels with equal arguments share subchannels.
    local = {"grpc.use_local_subchannel_pool": 1}
    old_channel = grpc.secure_channel(server.grpc_address, both, [*local.items()])
    old_stub = prediction(old_channel)
    request = predict_request("half_plus_two", x=[1.0, 2.0, 5.0])
    old_connection = server.rest_connection()
    old_connection.connect()
    old_socket = old_connection.sock

    def rest(connection):
        connection.request("POST", PREDICT, BODY)
        reply = connection.getresponse()
        assert (reply.status, reply.read()[:1]) == (200, b"{")

    def old_grpc():
        assert old_stub.Predict(request, timeout=TIMEOUT).outputs["y"].float_val[0] == 2.5

    def new_rest():
        connection = server.rest_connection()
        try:
            rest(connection)
        finally:
            connection.close()

    load = Load([
        lambda: rest(old_connection),
        old_grpc,
        new_rest,
        lambda: predict_grpc(server.grpc_address, both, **local),
    ])
    try:
        load.go_on(5)
        write_ssl_config(config, stranger.sign("second"))
        for port in (server.grpc_port, server.rest_port):
            wait_until(lambda: served_by(port, trusted) == "second")
        load.go_on(5)
        config.write_text("server_key: 'broken'")
        wait_until(lambda: "keeping the previous configuration" in server.log(None))
        assert served_by(server.grpc_port, trusted) == "second"
        load.go_on(5)
        write_ssl_config(config, authority.sign("third"))
        for port in (server.grpc_port, server.rest_port):
            wait_until(lambda: served_by(port, trusted) == "third")
        load.go_on(5)
    finally:
        load.stop()
        old_channel.close()
    assert not load.failures, load.failures[:3]
    # The old connection is still the same, with the certificate from its beginning.
    assert old_connection.sock is old_socket
    assert dict(pair for (pair,) in old_socket.getpeercert()["subject"])["commonName"] == "first"
    print(f"calls on old and new connections, REST and gRPC: {load.counts}, 0 failed")
