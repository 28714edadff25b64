"""Certificate authorities and certificates for the tests, made by the `openssl` program."""

import json
import ssl
import subprocess

KEY = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]

# The configuration for `openssl ca`; no other command accepts dates in the past.
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

# The extensions of an authority's certificate.
IS_AUTHORITY = "basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign,cRLSign"


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


class Workshop:
    """Makes certificates of any kind in a folder."""

    def __init__(self, folder):
        self.folder = folder
        self.config = folder / "ca.cnf"
        self.config.write_text(CA_CONFIG.format(folder=folder))
        (folder / "index.txt").touch()

    def make(
        self, name, issuer=None, extensions=None, key="P-256", digest="sha256",
        dates=("20200101000000Z", "20450101000000Z"),
    ):
        """A `Certificate` with `name` as its common name, signed by `issuer` or by itself.

        Without `extensions` it is of version 1. `key` is a curve, a number of bits for RSA or
        another algorithm of `openssl genpkey`; all certificates of one kind have the same key.
        """
        pem = self.folder / f"{name}.pem"
        key, request = self._key_and_request(key)
        arguments = [
            "ca", "-batch", "-notext", "-config", self.config, "-in", request, "-out", pem,
            "-subj", f"/CN={name}", "-startdate", dates[0], "-enddate", dates[1], "-md", digest,
        ]
        if extensions is not None:
            (self.folder / f"{name}.ext").write_text(extensions + "\n")
            arguments += ["-extfile", self.folder / f"{name}.ext"]
        if issuer:
            arguments += ["-cert", issuer.certificate, "-keyfile", issuer.key]
        else:
            arguments += ["-selfsign", "-keyfile", key]
        openssl(*arguments)
        return Certificate(pem, key)

    def _key_and_request(self, kind):
        key, request = (self.folder / f"{kind}.{suffix}" for suffix in ("key", "csr"))
        if key.exists():
            return key, request
        if kind.isdigit():
            openssl("genpkey", "-algorithm", "RSA", "-pkeyopt", f"rsa_keygen_bits:{kind}", "-out", key)
        elif kind.startswith("P-"):
            openssl("genpkey", "-algorithm", "EC", "-pkeyopt", f"ec_paramgen_curve:{kind}", "-out", key)
        else:
            openssl("genpkey", "-algorithm", kind, "-out", key)
        openssl("req", "-new", "-key", key, "-subj", "/CN=any", "-out", request)
        return key, request


def version_of(pem):
    """Which version of X.509 a certificate is of."""
    shown = subprocess.run(
        ["openssl", "x509", "-in", pem, "-noout", "-text"], check=True, capture_output=True, text=True
    ).stdout
    return int(shown.split("Version: ")[1].split()[0])


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
    return write_ssl_texts(
        path,
        certificate.key.read_text(),
        certificate.certificate.read_text(),
        custom_ca and custom_ca.certificate.read_text(),
    )


def write_ssl_texts(path, key, chain, custom_ca=None):
    """As `write_ssl_config`, from PEM texts."""
    # A JSON string is also a string of the text format.
    lines = [f"server_key: {json.dumps(key)}", f"server_cert: {json.dumps(chain)}"]
    if custom_ca:
        lines.append(f"custom_ca: {json.dumps(custom_ca)}")
        lines.append("client_verify: true")
    new = path.with_suffix(".new")
    new.write_text("\n".join(lines))
    new.replace(path)
    return path


def openssl(*arguments):
    subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True)
