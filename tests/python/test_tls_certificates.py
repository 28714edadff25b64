"""Certificates and keys of all kinds: what gRPC's C-core takes is taken, on both ports.

The oracle is `grpcio`, whose server is C-core: each client's certificate is shown to it as well.
"""

import json
import socket
import ssl
import subprocess
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest

from certificates import IS_AUTHORITY, Workshop, openssl, version_of, write_ssl_texts
from grpc_calls import TIMEOUT, predict_request, prediction
from model_server import BINARY, CALL_SECONDS, LIBRARY, PROJECT, ModelServer, free_ports, poll

MODEL = [
    "--model_name=half_plus_two",
    f"--model_base_path={PROJECT / 'models' / 'half_plus_two'}",
]
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0"
REQUEST = b"GET /v1/models/half_plus_two HTTP/1.1\r\nHost: localhost\r\n\r\n"
LEAF = "subjectAltName=DNS:localhost,IP:127.0.0.1"
BOTH = f"{LEAF}\nextendedKeyUsage=serverAuth,clientAuth"
PAST = ("20200101000000Z", "20200201000000Z")
FUTURE = ("20440101000000Z", "20450101000000Z")
UNKNOWN = "1.2.3.4=critical,ASN1:UTF8String:x"
VERSIONS = (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3)


class Clients:
    """Clients' certificates by what is special about them, and whom their servers trust."""

    def __init__(self, folder):
        self.workshop = Workshop(folder)
        # By name: the chain that the client sends, and whether a server should accept it.
        self.chains = {}
        self.trusted = [self.workshop.make("authority", extensions=IS_AUTHORITY)]
        self.server = self.make("server", extensions=BOTH)
        self._issued_by_the_authority()
        self._trusted_themselves()
        self._of_other_authorities()
        self._of_intermediates()

    def make(self, name, issuer=None, **options):
        return self.workshop.make(name, issuer or self.trusted[0], **options)

    def client(self, name, accepted, issuer=None, through=(), **options):
        chain = [self.make(name, issuer, **options), *through]
        self.chains[name] = (chain, accepted)
        return chain[0]

    def trust(self, name, **options):
        certificate = self.workshop.make(name, **options)
        self.trusted.append(certificate)
        return certificate

    def _issued_by_the_authority(self):
        self.client("plain", True, extensions=BOTH)
        self.client("version 1", True)
        self.client("without extendedKeyUsage", True, extensions=LEAF)
        for usage, accepted in {
            "clientAuth": True,
            "critical,clientAuth": True,
            "serverAuth": False,
            "anyExtendedKeyUsage": False,
            "codeSigning": False,
        }.items():
            self.client(f"for {usage}", accepted, extensions=f"extendedKeyUsage={usage}")
        for usage, accepted in {
            "digitalSignature": True,
            "keyEncipherment": False,
            "keyAgreement": False,
            "keyCertSign": False,
        }.items():
            self.client(f"with {usage}", accepted, extensions=f"keyUsage={usage}")
        self.client("of an authority", False, extensions=IS_AUTHORITY)
        for kind in ("server", "client", "sslCA"):
            self.client(f"nsCertType {kind}", True, extensions=f"nsCertType={kind}")
        self.client("nsCertType for servers only", False,
                    extensions="nsCertType=server\nextendedKeyUsage=serverAuth")
        self.client("unknown critical extension", False, extensions=UNKNOWN)
        self.client("unknown extension", True, extensions=UNKNOWN.replace("critical,", ""))
        self.client("expired", False, extensions=BOTH, dates=PAST)
        self.client("expired, version 1", False, dates=PAST)
        self.client("not yet valid", False, extensions=BOTH, dates=FUTURE)
        for digest in ("sha1", "sha224", "sha384", "sha512"):
            self.client(digest, True, extensions=BOTH, digest=digest)
        self.client("sha1, version 1", True, digest="sha1")
        for bits in ("768", "1024", "2048", "3072", "4096", "8192"):
            self.client(f"RSA {bits}", True, extensions=BOTH, key=bits)
            self.client(f"RSA {bits}, version 1", True, key=bits)
        self.client("P-384", True, extensions=BOTH, key="P-384")
        self.client("P-384, version 1", True, key="P-384")
        self.client("P-224", False, extensions=BOTH, key="P-224")

    def _trusted_themselves(self):
        for name, options in {
            "itself": {"extensions": BOTH},
            "itself, version 1": {},
            "itself, as openssl req -x509": {"extensions": "basicConstraints=critical,CA:TRUE"},
            "itself, for servers": {"extensions": "extendedKeyUsage=serverAuth"},
            "itself, critical extension": {"extensions": UNKNOWN},
            "itself, RSA 1024": {"key": "1024"},
            "itself, sha1": {"digest": "sha1"},
        }.items():
            self.chains[name] = ([self.trust(name, **options)], True)
        for name, options in {
            "itself, expired": {"dates": PAST},
            "itself, for certificates": {"extensions": IS_AUTHORITY},
        }.items():
            self.chains[name] = ([self.trust(name, **options)], False)
        for name, options in {
            "self-signed stranger": {"extensions": BOTH},
            "self-signed stranger, version 1": {},
        }.items():
            self.chains[name] = ([self.workshop.make(name, **options)], False)
        elsewhere = self.workshop.make("elsewhere", extensions=IS_AUTHORITY)
        self.client("of a stranger", False, elsewhere, extensions=BOTH)
        for name, extensions in {"pinned": BOTH, "pinned, for servers": "extendedKeyUsage=serverAuth"}.items():
            self.trusted.append(self.client(name, True, elsewhere, extensions=extensions))

    def _of_other_authorities(self):
        for name, accepted, options in [
            ("version 1", True, {}),
            ("RSA 1024", True, {"key": "1024", "extensions": IS_AUTHORITY}),
            ("RSA 8192", True, {"key": "8192", "extensions": IS_AUTHORITY}),
            ("P-384", True, {"key": "P-384", "extensions": IS_AUTHORITY}),
            ("P-521", True, {"key": "P-521", "extensions": IS_AUTHORITY}),
            ("sha1", True, {"digest": "sha1", "extensions": IS_AUTHORITY}),
            ("self-signed by md5", True, {"digest": "md5", "key": "2048", "extensions": IS_AUTHORITY}),
            ("without basicConstraints", True, {"extensions": LEAF}),
            ("CA:FALSE", True, {"extensions": "basicConstraints=CA:FALSE"}),
            ("without keyUsage", True, {"extensions": "basicConstraints=CA:TRUE"}),
            ("no keyCertSign", False,
             {"extensions": "basicConstraints=CA:TRUE\nkeyUsage=digitalSignature"}),
            ("for servers", True,
             {"extensions": f"{IS_AUTHORITY}\nextendedKeyUsage=serverAuth"}),
            ("critical extension", True, {"extensions": f"{IS_AUTHORITY}\n{UNKNOWN}"}),
            ("expired", False, {"extensions": IS_AUTHORITY, "dates": PAST}),
        ]:
            issuer = self.trust(f"authority, {name}", **options)
            self.client(f"of authority, {name}", accepted, issuer, extensions=BOTH)
        # Its own signature does not matter, but those that it makes do.
        rsa = self.trust("authority, RSA", key="2048", extensions=IS_AUTHORITY)
        self.client("md5", False, rsa, extensions=BOTH, digest="md5")
        self.client("version 1 of RSA", True, rsa)
        constrained = self.trust(
            "authority, constrained",
            extensions=f"{IS_AUTHORITY}\nnameConstraints=critical,permitted;DNS:example.com",
        )
        self.client("name outside", False, constrained, extensions=BOTH)
        self.client("name.outside.org", False, constrained)
        self.client("name inside", True, constrained, extensions="subjectAltName=DNS:a.example.com")

    def _of_intermediates(self):
        ours = self.make("intermediate", extensions=IS_AUTHORITY)
        self.client("through an intermediate", True, ours, [ours], extensions=BOTH)
        self.client("through an intermediate, sent with its issuer", True, ours,
                    [ours, self.trusted[0]], extensions=BOTH)
        self.client("intermediate not sent", False, ours, extensions=BOTH)
        for name, options in {
            "version 1": {},
            "without basicConstraints": {"extensions": LEAF},
            "expired": {"extensions": IS_AUTHORITY, "dates": PAST},
            "for servers": {"extensions": f"{IS_AUTHORITY}\nextendedKeyUsage=serverAuth"},
        }.items():
            bad = self.make(f"intermediate, {name}", **options)
            self.client(f"through intermediate, {name}", False, bad, [bad], extensions=BOTH)
        pinned = self.make("intermediate, trusted")
        self.trusted.append(pinned)
        self.client("through a trusted intermediate of version 1", True, pinned, extensions=BOTH)
        last, chain = self.trusted[0], []
        for depth in range(8):
            last = self.make(f"deep {depth}", last, extensions=IS_AUTHORITY)
            chain.insert(0, last)
        self.client("through eight", True, last, chain, extensions=BOTH)

    def custom_ca(self):
        return "".join(it.certificate.read_text() for it in self.trusted)


@pytest.fixture(scope="module")
def clients(tmp_path_factory):
    return Clients(tmp_path_factory.mktemp("clients"))


@pytest.fixture(scope="module")
def mutual(start_server, clients, tmp_path_factory):
    """Our server with TLS on both ports, which asks for a certificate that `clients` trusts."""
    config = write_ssl_texts(
        tmp_path_factory.mktemp("mutual") / "ssl.config",
        clients.server.key.read_text(),
        clients.server.certificate.read_text(),
        clients.custom_ca(),
    )
    ours = context(clients.chains["plain"][0])
    flags = [*MODEL, f"--ssl_config_file={config}", "--rest_api_use_ssl"]
    return start_server(flags, ["half_plus_two"], context=ours)


@pytest.fixture(scope="module")
def c_core(clients):
    """The port of a server of gRPC's own with the same files."""
    credentials = grpc.ssl_server_credentials(
        [(clients.server.key.read_bytes(), clients.server.certificate.read_bytes())],
        root_certificates=clients.custom_ca().encode(),
        require_client_auth=True,
    )
    server = grpc.server(ThreadPoolExecutor(1))
    port = server.add_secure_port("127.0.0.1:0", credentials)
    server.start()
    yield port
    server.stop(None).wait()


def context(chain=None, version=None, alpn=None):
    """A client's context that takes any server, and old keys as well."""
    result = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    result.check_hostname = False
    result.verify_mode = ssl.CERT_NONE
    result.set_ciphers("DEFAULT:@SECLEVEL=0")
    if version:
        result.minimum_version = result.maximum_version = version
    if alpn:
        result.set_alpn_protocols([alpn])
    if chain:
        pem = chain[0].certificate.with_suffix(".chain")
        pem.write_text("".join(it.certificate.read_text() for it in chain))
        result.load_cert_chain(pem, chain[0].key)
    return result


def is_accepted(port, chain, version, alpn, sent):
    """Whether a server answers a client that has this certificate."""
    client = context(chain, version, alpn)
    try:
        with socket.create_connection(("127.0.0.1", port), CALL_SECONDS) as connection:
            with client.wrap_socket(connection, server_hostname="localhost") as stream:
                stream.sendall(sent)
                # With TLS 1.3 a client notices its refusal only here.
                return stream.recv(1) != b""
    except (ssl.SSLError, ConnectionResetError, BrokenPipeError):
        return False


def shown_to(port, chains, alpn, sent):
    """Which of the chains a server accepts, by name and version of TLS."""
    return {
        f"{name} ({version.name})": is_accepted(port, chain, version, alpn, sent)
        for name, (chain, _) in chains.items()
        for version in VERSIONS
    }


def expected(chains):
    return {
        f"{name} ({version.name})": accepted
        for name, (_, accepted) in chains.items()
        for version in VERSIONS
    }


def test_c_core_takes_these_clients(clients, c_core):
    assert shown_to(c_core, clients.chains, "h2", PREFACE) == expected(clients.chains)


def test_the_grpc_port_takes_the_same_clients(clients, mutual):
    assert shown_to(mutual.grpc_port, clients.chains, "h2", PREFACE) == expected(clients.chains)


def test_the_rest_port_takes_the_same_clients(clients, mutual):
    answered = shown_to(mutual.rest_port, clients.chains, "http/1.1", REQUEST)
    assert answered == expected(clients.chains)


def test_two_more_kinds_of_keys_are_taken(clients, mutual):
    """C-core takes P-521 by TLS 1.2 only, and no Ed25519."""
    chains = {key: ([clients.make(key, extensions=BOTH, key=key)], True) for key in ("P-521", "ED25519")}
    assert shown_to(mutual.grpc_port, chains, "h2", PREFACE) == expected(chains)


def test_refusals_are_logged_with_their_reason(clients, mutual):
    for name, reason in {
        "of a stranger": "it does not lead to a trusted one",
        "expired": "has expired",
        "not yet valid": "is not yet valid",
        "for serverAuth": "it is not for TLS clients",
        "md5": "a signature is wrong, or of a kind that is not taken",
        "through intermediate, version 1": "invalid CA certificate",
    }.items():
        chain, _ = clients.chains[name]
        assert not is_accepted(mutual.grpc_port, chain, VERSIONS[1], "h2", PREFACE)
        lines = poll(lambda: [line for line in mutual.log(None).splitlines() if reason in line])
        assert "TLS handshake failed" in lines[0] and "peer=127.0.0.1:" in lines[0], lines


def test_a_flood_of_refusals_is_a_few_lines(start_server, clients, tmp_path):
    config = write_ssl_texts(
        tmp_path / "ssl.config",
        clients.server.key.read_text(),
        clients.server.certificate.read_text(),
        clients.custom_ca(),
    )
    server = start_server([*MODEL, f"--ssl_config_file={config}"], ["half_plus_two"])
    for _ in range(100):
        assert not is_accepted(server.grpc_port, None, VERSIONS[1], "h2", PREFACE)
    assert is_accepted(server.grpc_port, clients.chains["plain"][0], VERSIONS[1], "h2", PREFACE)
    # One line every 10 s, and the test is over in a minute on any machine.
    assert 1 <= server.log(None).count("the client sent no certificate") <= 7


# The server's own key and certificate.


def served(folder, key, chain, check):
    """Starts a server with these texts, and hands it to `check`."""
    config = write_ssl_texts(folder / "ssl.config", key, chain)
    flags = [*MODEL, f"--ssl_config_file={config}", "--rest_api_use_ssl"]
    server = ModelServer(flags, ["half_plus_two"], folder / "server.log", context=context())
    try:
        check(server)
    finally:
        server.stop()


def chain_served_on(port, version):
    """The certificates that a server shows, in DER form, by `openssl s_client`."""
    flag = {VERSIONS[0]: "-tls1_2", VERSIONS[1]: "-tls1_3"}[version]
    command = ["openssl", "s_client", "-connect", f"127.0.0.1:{port}", flag, "-showcerts"]
    command += ["-cipher", "DEFAULT:@SECLEVEL=0"]
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=CALL_SECONDS
    )
    assert done.returncode == 0, done
    parts = done.stdout.split("-----BEGIN CERTIFICATE-----")[1:]
    texts = [part.split("-----END CERTIFICATE-----")[0] for part in parts]
    return ["".join(text.split()) for text in texts]


def base64_of(certificate):
    text = certificate.certificate.read_text().split("-----BEGIN CERTIFICATE-----")[1]
    return "".join(text.split("-----END")[0].split())


def test_a_server_certificate_by_the_usual_recipe(tmp_path):
    """`openssl x509 -req` without extensions makes version 1; a gRPC client takes it."""
    path = {name: tmp_path / name for name in ("ca.key", "ca.pem", "server.key", "server.csr", "server.pem")}
    openssl("genrsa", "-out", path["ca.key"], "2048")
    openssl("req", "-x509", "-new", "-key", path["ca.key"], "-days", "2", "-subj", "/CN=ca", "-out", path["ca.pem"])
    openssl("genrsa", "-out", path["server.key"], "2048")
    openssl("req", "-new", "-key", path["server.key"], "-subj", "/CN=localhost", "-out", path["server.csr"])
    openssl(
        "x509", "-req", "-days", "2", "-in", path["server.csr"], "-CA", path["ca.pem"],
        "-CAkey", path["ca.key"], "-set_serial", "01", "-out", path["server.pem"],
    )
    assert version_of(path["server.pem"]) == 1

    def check(server):
        credentials = grpc.ssl_channel_credentials(path["ca.pem"].read_bytes())
        with grpc.secure_channel(f"localhost:{server.grpc_port}", credentials) as channel:
            request = predict_request("half_plus_two", x=[1.0, 2.0, 5.0])
            response = prediction(channel).Predict(request, timeout=TIMEOUT)
        assert list(response.outputs["y"].float_val) == [2.5, 3.0, 4.5]
        status, body = server.predict_rest("half_plus_two", '{"instances": [1.0, 2.0, 5.0]}')
        assert (status, json.loads(body)) == (200, {"predictions": [2.5, 3.0, 4.5]})

    served(tmp_path, path["server.key"].read_text(), path["server.pem"].read_text(), check)


@pytest.mark.parametrize(
    "key, extensions",
    [
        ("1024", None), ("1024", BOTH), ("2048", BOTH), ("4096", None), ("8192", None), ("8192", BOTH),
        ("P-256", None), ("P-384", None), ("P-384", BOTH), ("P-521", BOTH), ("ED25519", BOTH),
        ("P-256", "basicConstraints=CA:TRUE"), ("P-256", f"{LEAF}\nextendedKeyUsage=clientAuth"),
        ("P-256", UNKNOWN),
    ],
)
def test_server_keys_and_certificates(clients, tmp_path, key, extensions):
    certificate = clients.make(f"server {key} {hash(extensions)}", key=key, extensions=extensions)

    def check(server):
        for port in (server.grpc_port, server.rest_port):
            for version in VERSIONS:
                assert chain_served_on(port, version) == [base64_of(certificate)]

    served(tmp_path, certificate.key.read_text(), certificate.certificate.read_text(), check)


def pkcs1(path):
    return converted("rsa", "-in", path, "-traditional")


def sec1(path):
    return converted("ec", "-in", path)


def pkcs8(path):
    return converted("pkcs8", "-topk8", "-nocrypt", "-in", path)


def converted(*arguments):
    done = subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True, text=True)
    return done.stdout


def with_parameters(path):
    return converted("ecparam", "-name", "prime256v1") + sec1(path)


@pytest.mark.parametrize(
    "key, form",
    [
        ("2048", pkcs1), ("2048", pkcs8), ("P-256", sec1), ("P-256", pkcs8), ("P-256", with_parameters),
        ("P-256", lambda path: "Bag Attributes\n  friendlyName: me\n" + pkcs8(path)),
        ("2048", lambda path: pkcs1(path).replace("\n", "\r\n")),
        ("P-256", lambda path: sec1(path) + "and more"),
    ],
)
def test_forms_of_private_keys(clients, tmp_path, key, form):
    certificate = clients.make(f"form {key}", key=key, extensions=BOTH)
    text = certificate.certificate.read_text()
    chain = [certificate, clients.trusted[0]]
    several = "subject=me\n" + text.replace("\n", "\r\n") + clients.trusted[0].certificate.read_text() + "garbage\n"

    def check(server):
        for port in (server.grpc_port, server.rest_port):
            assert chain_served_on(port, VERSIONS[1]) == [base64_of(it) for it in chain]

    served(tmp_path, form(certificate.key), several, check)


def refusal_at_start(folder, key, chain):
    """What a start that fails says."""
    config = write_ssl_texts(folder / "ssl.config", key, chain)
    command = [BINARY, *MODEL, f"--onnxruntime_library={LIBRARY}", f"--port={free_ports(1)[0]}", f"--ssl_config_file={config}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=CALL_SECONDS)
    assert done.returncode == 255, done
    assert not any(line and line in done.stdout + done.stderr for line in key.splitlines()), "the key is told"
    return done.stdout


def test_keys_that_cannot_be_used_are_named(clients, tmp_path):
    ours, rsa = clients.make("ours", extensions=BOTH), clients.make("RSA", key="2048", extensions=BOTH)
    another = converted("genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256")
    curve = converted("genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:secp224r1")
    text = ours.certificate.read_text()
    encrypted = converted("pkcs8", "-topk8", "-in", ours.key, "-passout", "pass:secret")
    traditional = converted("ec", "-in", ours.key, "-aes128", "-passout", "pass:secret")
    for key, chain, said in [
        (another, text, "server_key and server_cert: the key is not that of the first certificate"),
        (ours.key.read_text(), rsa.certificate.read_text() + text, "not that of the first certificate"),
        (curve, text, "server_key is of a kind that TLS has no use for"),
        (encrypted, text, "server_key is encrypted"),
        (traditional, text, "server_key is encrypted"),
        (pkcs8(ours.key)[:-60], text, "server_key holds no private key in PEM form that can be read"),
    ]:
        assert said in refusal_at_start(tmp_path, key, chain)


def test_certificates_of_version_1_are_exchanged_while_serving(clients, tmp_path):
    first, second = clients.make("first"), clients.make("second", key="1024")

    def check(server):
        serves = lambda it: chain_served_on(server.grpc_port, VERSIONS[1]) == [base64_of(it)]
        assert serves(first)
        write_ssl_texts(tmp_path / "ssl.config", second.key.read_text(), second.certificate.read_text())
        poll(lambda: serves(second), 60)

    served(tmp_path, first.key.read_text(), first.certificate.read_text(), check)
