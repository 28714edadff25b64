"""Credentials, and the lines of an `--auth_config_file` that know them."""

import base64
import hashlib
import subprocess

from model_server import BINARY

ADMIN = "admin-token-5e0c7c1d"
ROBOT = "robot-token-93af01b2"
ALICE = "correct horse battery staple"
# Rules of an identity that is allowed to do everything.
ALL = "predict: '*' metadata: '*' status: '*' admin: '*'"


def bearer(token):
    return {"authorization": f"Bearer {token}"}


def basic(user, password):
    return {"authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}


def hashed(command, secret):
    """What the server's own command makes of a secret."""
    done = subprocess.run(
        [BINARY, command], input=secret + "\n", capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def token_identity(name, token, rules):
    digest = hashlib.sha256(token.encode()).hexdigest()
    return f"identity {{ name: '{name}' token_sha256: '{digest}' {rules} }}\n"
