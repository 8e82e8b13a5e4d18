"""A real registry for tests: docker-registry on the loopback interface, with TLS and authentication."""

from __future__ import annotations

import base64
import contextlib
import json
import shutil
import ssl
import subprocess
import time
import urllib.error
import urllib.request
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING, Literal
from urllib.parse import parse_qs, urlsplit

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, utils
from cryptography.x509 import load_pem_x509_certificate

from tests.support.nginx import find_free_port
from tests.support.programs import require
from tests.support.web import serve

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.certificates import Certificate

    Authentication = Literal["none", "basic", "token"]

USER = "tester"
PASSWORD = "secret"
_PASSWORD_HASH = "$2b$04$1dKE/iLKV..EHTOGfZ4WZOKmxBIQXrEj0oMaiPk/GtD5afkR6wXwu"
_START_TIMEOUT_S = 120.0
_SERVICE = "test registry"

_CONFIGURATION = """
version: 0.1
log: {{level: warn, accesslog: {{disabled: true}}}}
storage:
  filesystem: {{rootdirectory: {work}/data}}
  delete: {{enabled: true}}
http:
  addr: 127.0.0.1:{port}
  secret: x
  tls: {{certificate: {certificate}, key: {key}}}
"""
_BASIC = "auth: {{htpasswd: {{realm: test, path: {work}/htpasswd}}}}\n"
_TOKEN = """
auth:
  token: {{realm: "{realm}", service: "{service}", issuer: tests, rootcertbundle: {certificate}}}
"""


class Registry:
    """A running registry.

    Attributes:
        host: Its name, as it stands in names of images.
        certificates: A directory like ``certs.d/HOST``.
        authfile: A file with valid credentials.
        tokens: Queries that the token service was asked, with the user who asked.
    """

    def __init__(self, host: str, work: Path, certificate: Certificate) -> None:
        self.host = host
        self.tokens: list[tuple[str | None, str]] = []
        self.certificates = work / "certificates"
        self.certificates.mkdir()
        shutil.copy(certificate.path, self.certificates / "ca.crt")
        self.authfile = work / "auth.json"
        text = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        self.authfile.write_text(json.dumps({"auths": {host: {"auth": text}}}))

    def skopeo(self, *arguments: str) -> str:
        """Run skopeo, which must succeed, and return its standard output."""
        command, *rest = arguments
        options = ["--src-cert-dir", "--dest-cert-dir"] if command == "copy" else ["--cert-dir"]
        places = [text for option in options for text in (option, str(self.certificates))]
        done = subprocess.run(
            ["skopeo", "--insecure-policy", command, "--authfile", str(self.authfile), *places, *rest],
            capture_output=True,
            check=False,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout


@contextlib.contextmanager
def run_registry(
    work: Path, certificate: Certificate, authentication: Authentication = "none"
) -> Iterator[Registry]:
    """Run a registry with TLS; skips the test where there is none.

    Args:
        work: An existing directory for the server's own files.
        certificate: Of the server, and of the token service, which signs with it.
        authentication: How it wants to know who asks.
    """
    require("docker-registry")
    require("skopeo")
    port = find_free_port()
    registry = Registry(f"127.0.0.1:{port}", work, certificate)
    (work / "htpasswd").write_text(f"{USER}:{_PASSWORD_HASH}\n")
    with contextlib.ExitStack() as stack:
        text = _CONFIGURATION
        realm = ""
        if authentication == "basic":
            text += _BASIC
        elif authentication == "token":
            text += _TOKEN
            realm = stack.enter_context(_run_token_service(certificate, registry))
        configuration = work / "registry.yml"
        configuration.write_text(
            text.format(
                work=work,
                port=port,
                certificate=certificate.path,
                key=certificate.key_path,
                realm=realm,
                service=_SERVICE,
            )
        )
        with open(work / "registry.log", "wb") as log:
            process = subprocess.Popen(["docker-registry", "serve", configuration], stdout=log, stderr=log)
        try:
            _await_start(process, f"https://{registry.host}/v2/", certificate, work)
            yield registry
        finally:
            process.kill()
            process.wait()


def _await_start(process: subprocess.Popen[bytes], url: str, certificate: Certificate, work: Path) -> None:
    context = ssl.create_default_context(cafile=str(certificate.path))
    deadline_s = time.monotonic() + _START_TIMEOUT_S
    while True:
        try:
            urllib.request.urlopen(url, timeout=60, context=context).close()
        except urllib.error.HTTPError:
            return
        except OSError:
            if process.poll() is not None or time.monotonic() > deadline_s:
                raise RuntimeError((work / "registry.log").read_text()) from None
            time.sleep(0.05)
        else:
            return


@contextlib.contextmanager
def _run_token_service(certificate: Certificate, registry: Registry) -> Iterator[str]:
    """Run a service that gives tokens to our user, and that any client may read with."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            header = self.headers.get("Authorization", "")
            user = None
            if header:
                user, _, password = base64.b64decode(header.partition(" ")[2]).decode().partition(":")
                if (user, password) != (USER, PASSWORD):
                    self.send_error(401)
                    return
            query = urlsplit(self.path).query
            registry.tokens.append((user, query))
            access = [_grant(scope, user) for scope in parse_qs(query).get("scope", [])]
            body = json.dumps({"token": _sign(certificate, access), "expires_in": 300}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate.path, certificate.key_path)
    with serve(Handler, context) as url:
        yield f"{url}/token"


def _grant(scope: str, user: str | None) -> dict[str, object]:
    """Return what a user may do: ours everything, others read what is below ``public``."""
    kind, name, actions = scope.split(":")
    wanted = actions.split(",")
    may_read = name.startswith("public/")
    return {"type": kind, "name": name, "actions": wanted if user else ["pull"] if may_read else []}


def _sign(certificate: Certificate, access: list[dict[str, object]]) -> str:
    """Return a JSON web token with the certificate in it."""
    key = serialization.load_pem_private_key(certificate.key_path.read_bytes(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    der = load_pem_x509_certificate(certificate.path.read_bytes()).public_bytes(serialization.Encoding.DER)
    now = int(time.time())
    header = {"typ": "JWT", "alg": "ES256", "x5c": [base64.b64encode(der).decode()]}
    claims = {
        "iss": "tests",
        "sub": "",
        "aud": _SERVICE,
        "exp": now + 300,
        "nbf": now - 10,
        "iat": now,
        "jti": str(now),
        "access": access,
    }
    text = ".".join(_encode(json.dumps(part).encode()) for part in (header, claims))
    r, s = utils.decode_dss_signature(key.sign(text.encode(), ec.ECDSA(hashes.SHA256())))
    return f"{text}.{_encode(r.to_bytes(32, 'big') + s.to_bytes(32, 'big'))}"


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
