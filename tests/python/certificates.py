"""Certificate authorities and certificates for the tests, made by the `openssl` program."""

import json
import ssl
import subprocess

KEY = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]

# What `openssl ca` wants to know; only it takes dates in the past.
CA_CONFIG = """
[ca]
default_ca = here
[here]
new_certs_dir = {folder}
database = {folder}/index.txt
rand_serial = yes
default_md = sha256
policy = any
unique_subject = no
[any]
commonName = supplied
"""


class Authority:
    """A certificate authority with a folder for what it signs."""

    def __init__(self, folder, name="authority"):
        folder.mkdir()
        self.folder = folder
        self.certificate = folder / "ca.pem"
        self.key = folder / "ca.key"
        self.config = folder / "ca.cnf"
        self.config.write_text(CA_CONFIG.format(folder=folder))
        (folder / "index.txt").touch()
        openssl(
            "req", "-x509", *KEY, "-subj", f"/CN={name}", "-days", "2",
            "-keyout", self.key, "-out", self.certificate,
        )

    def sign(self, name, alternative_names="DNS:localhost,IP:127.0.0.1", expired=False):
        """A `Certificate` with `name` as its common name."""
        key, request, certificate = (
            self.folder / f"{name}.{suffix}" for suffix in ("key", "csr", "pem")
        )
        openssl("req", *KEY, "-subj", f"/CN={name}", "-keyout", key, "-out", request)
        extensions = self.folder / f"{name}.ext"
        extensions.write_text(
            f"subjectAltName={alternative_names}\nextendedKeyUsage=serverAuth,clientAuth\n"
        )
        dates = ["-startdate", "20200101000000Z", "-enddate", "20200201000000Z"]
        openssl(
            "ca", "-batch", "-notext", "-config", self.config, "-in", request,
            "-cert", self.certificate, "-keyfile", self.key, "-extfile", extensions,
            "-out", certificate, *(dates if expired else ["-days", "2"]),
        )
        return Certificate(certificate, key)

    def context(self, certificate=None):
        """A client's context that trusts this authority, perhaps with a certificate of its own."""
        return context([self], certificate)


class Certificate:
    """A signed certificate and its key, each a PEM file."""

    def __init__(self, certificate, key):
        self.certificate = certificate
        self.key = key

    @property
    def files(self):
        return str(self.certificate), str(self.key)


def context(authorities, certificate=None):
    """A client's context that trusts these authorities."""
    result = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    for authority in authorities:
        result.load_verify_locations(authority.certificate)
    if certificate:
        result.load_cert_chain(*certificate.files)
    return result


def write_ssl_config(path, certificate, custom_ca=None):
    """Writes an `--ssl_config_file` in one step, as `mv` does.

    With `custom_ca` clients have to have a certificate of that authority.
    """
    # A JSON string is a string of the text format.
    lines = [
        f"server_key: {json.dumps(certificate.key.read_text())}",
        f"server_cert: {json.dumps(certificate.certificate.read_text())}",
    ]
    if custom_ca:
        lines.append(f"custom_ca: {json.dumps(custom_ca.certificate.read_text())}")
        lines.append("client_verify: true")
    new = path.with_suffix(".new")
    new.write_text("\n".join(lines))
    new.replace(path)
    return path


def openssl(*arguments):
    subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True)
