"""Answer authentication challenges: basic authentication, and the bearer tokens of registries.

A server that requires authentication responds with status 401 and a challenge. Credentials belong to one
origin. They are sent only to that origin or, if it requires a token, to the token service that it names; the
token is sent only to the origin. A challenge after a redirect to another origin is not answered.

    GET ─▶ 401, WWW-Authenticate: Bearer realm="…",service="…" ─▶ token service ─▶ GET with the token

Formats: RFC 9110, 11; the token protocol of the distribution project.
"""

from __future__ import annotations

import base64
import re
import time
from typing import TYPE_CHECKING, Final, NamedTuple
from urllib.parse import quote, urlencode

from cfsctl.errors import FetchError
from cfsctl.http.errors import HTTPStatusError, TransferError
from cfsctl.http.urls import check_url, origin_of, redact_url
from cfsctl.json_fields import JsonError, parse_object

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from cfsctl.http.fetcher import Fetcher
    from cfsctl.http.urls import Origin

UNAUTHORIZED: Final = 401

_MAX_CHALLENGE_CHARACTERS: Final = 16 << 10
_MAX_TOKEN_ANSWER_BYTES: Final = 1 << 20
_CLIENT_ID: Final = "cfsctl"
_DEFAULT_LIFETIME_S: Final = 60
_EARLY_S: Final = 10
"""A token is renewed so long before it ends, so that it does not end on its way."""

_SCHEME: Final = re.compile(r"[ \t,]*([A-Za-z0-9!#$%&'*+.^_`|~-]+)(?:[ \t]+|[ \t]*(?=,|$))")
_PARAMETER: Final = re.compile(
    r"[ \t,]*([A-Za-z0-9!#$%&'*+.^_`|~-]+)[ \t]*=[ \t]*"
    r'(?:"((?:[^"\\]|\\.)*)"|([A-Za-z0-9!#$%&\'*+.^_`|~-]+))[ \t]*(?=,|$)'
)
_TOKEN_68: Final = re.compile(r"[A-Za-z0-9._~+/-]+=*[ \t]*(?=,|$)")
_ESCAPED: Final = re.compile(r"\\(.)")


class Credentials(NamedTuple):
    """Who we are to one server.

    Attributes:
        user: User name.
        password: Its password.
        identity_token: A long-lived token to be exchanged for others, in place of the two; empty if none.
    """

    user: str
    password: str
    identity_token: str = ""

    def to_basic(self) -> str:
        """Return the header field's value for basic authentication."""
        return "Basic " + base64.b64encode(f"{self.user}:{self.password}".encode()).decode()


class Challenge(NamedTuple):
    """One way in which a server wants to be told.

    Attributes:
        scheme: In small letters, such as ``bearer``.
        parameters: Values by names in small letters.
    """

    scheme: str
    parameters: Mapping[str, str]


class AuthenticationError(FetchError):
    """A challenge that cannot be answered, or an answer that was not accepted."""


def parse_challenges(texts: Iterable[str]) -> list[Challenge]:
    """Return what the fields WWW-Authenticate of one answer say; what cannot be understood ends a field."""
    found: list[Challenge] = []
    for field in texts:
        place = 0
        text = field[:_MAX_CHALLENGE_CHARACTERS]
        while match := _SCHEME.match(text, place):
            place = match.end()
            if token := _TOKEN_68.match(text, place):
                place = token.end()
            parameters: dict[str, str] = {}
            while parameter := _PARAMETER.match(text, place):
                place = parameter.end()
                quoted = parameter[2]
                value = parameter[3] if quoted is None else _ESCAPED.sub(r"\1", quoted)
                parameters.setdefault(parameter[1].lower(), value)
            found.append(Challenge(match[1].lower(), parameters))
    return found


class _Token(NamedTuple):
    authorization: str
    ends_s: float


class Authenticator:
    """Knows how to be told apart at one origin. May be used in forked processes, each with what was known."""

    def __init__(
        self,
        fetcher: Fetcher,
        url: str,
        find_credentials: Callable[[], Credentials | None],
        post: Callable[[str, bytes], bytes],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Prepare; nothing is requested yet.

        Args:
            fetcher: Asks the service that gives out tokens.
            url: Any URL of the origin.
            find_credentials: Asked once, at the first challenge.
            post: Sends a form to a URL and returns the answer, for identity tokens.
            clock: Seconds.
        """
        self._fetcher = fetcher
        self._origin: Origin = origin_of(url)
        self._name = redact_url(url)
        self._find_credentials = find_credentials
        self._post = post
        self._clock = clock
        self._credentials: Credentials | None = None
        self._is_asked = False
        self._basic: str | None = None
        self._tokens: dict[tuple[str, ...], _Token] = {}
        self._bearer: dict[tuple[str, ...], Challenge] = {}

    def find_authorization(self, scopes: tuple[str, ...]) -> str | None:
        """Return the header field's value for requests of some scopes, or None before any challenge.

        Raises:
            FetchError: A token has expired, and no new one was issued.
        """
        token = self._tokens.get(scopes)
        if token is None:
            return self._basic
        if self._clock() >= token.ends_s:
            token = self._tokens[scopes] = self._fetch_token(self._bearer[scopes], scopes)
        return token.authorization

    def answer(self, error: TransferError, scopes: tuple[str, ...]) -> bool:
        """Answer a challenge; return whether to ask again.

        Args:
            error: What a request without the right authorization ended with.
            scopes: What the request needs, such as ``repository:NAME:pull``.

        Raises:
            FetchError: The service does not give out a token.
        """
        if not isinstance(error, HTTPStatusError) or error.status != UNAUTHORIZED:
            return False
        if error.answered_by != self._origin:
            return False
        challenges = parse_challenges(value for name, value in error.fields if name == "www-authenticate")
        by_scheme = {challenge.scheme: challenge for challenge in reversed(challenges)}
        if "bearer" in by_scheme:
            self._bearer[scopes] = by_scheme["bearer"]
            self._tokens[scopes] = self._fetch_token(by_scheme["bearer"], scopes)
            return True
        credentials = self._know_credentials()
        if "basic" not in by_scheme or credentials is None or credentials.identity_token:
            return False
        was, self._basic = self._basic, credentials.to_basic()
        return was != self._basic

    def _know_credentials(self) -> Credentials | None:
        if not self._is_asked:
            self._is_asked = True
            self._credentials = self._find_credentials()
        return self._credentials

    def _fetch_token(self, challenge: Challenge, scopes: tuple[str, ...]) -> _Token:
        realm = self._check_realm(challenge.parameters.get("realm", ""))
        named = challenge.parameters.get("scope", "").split()
        query = [("scope", scope) for scope in dict.fromkeys((*scopes, *named))]
        if service := challenge.parameters.get("service"):
            query.insert(0, ("service", service))
        credentials = self._know_credentials()
        began_s = self._clock()
        try:
            if credentials is not None and credentials.identity_token:
                body = self._exchange(realm, query, credentials.identity_token)
            else:
                body = self._ask(realm, query, credentials)
        except HTTPStatusError as error:
            raise self._refused(error, realm, credentials) from error
        except TransferError as error:
            raise error.about(f"token for {self._name}") from error
        return _parse_token(body, realm, began_s)

    def _ask(self, realm: str, query: list[tuple[str, str]], credentials: Credentials | None) -> bytes:
        authorization = None
        if credentials is not None:
            query.insert(0, ("account", credentials.user))
            authorization = credentials.to_basic()
        url = f"{realm}{'&' if '?' in realm else '?'}{urlencode(query, quote_via=quote)}"
        answer = self._fetcher.get(url, limit_bytes=_MAX_TOKEN_ANSWER_BYTES, authorization=authorization)
        return answer.body

    def _exchange(self, realm: str, query: list[tuple[str, str]], identity_token: str) -> bytes:
        """Return the answer to an identity token, by the rules of OAuth 2."""
        form = {key: " ".join(value for name, value in query if name == key) for key, _ in query}
        form |= {"grant_type": "refresh_token", "refresh_token": identity_token, "client_id": _CLIENT_ID}
        return self._post(realm, urlencode(form).encode())

    def _refused(
        self, error: HTTPStatusError, realm: str, credentials: Credentials | None
    ) -> AuthenticationError:
        who = "anybody" if credentials is None else f"user {credentials.user or '(identity token)'}"
        return AuthenticationError(
            f"{self._name}: {redact_url(realm)} gives no token to {who}: HTTP status {error.status}",
            hint="log in with `podman login`, `skopeo login` or `docker login`",
        )

    def _check_realm(self, realm: str) -> str:
        try:
            parts = check_url(realm)
        except FetchError as error:
            raise AuthenticationError(f"{self._name}: where to get a token: {error}") from error
        if self._origin[0] == "https" and parts.scheme != "https":
            raise AuthenticationError(
                f"{self._name}: refused to get a token from {redact_url(realm)}, which is not https"
            )
        if "@" in parts.netloc or "#" in realm:
            raise AuthenticationError(
                f"{self._name}: refused to get a token from {redact_url(realm)}: "
                "expected a URL without user name and fragment"
            )
        return realm


def _parse_token(body: bytes, realm: str, now_s: float) -> _Token:
    what = f"token from {redact_url(realm)}"
    try:
        fields = parse_object(body, what)
        text = fields.find_string("token") or fields.get_string("access_token")
        lifetime_s = fields.find_size("expires_in") or 0
    except JsonError as error:
        raise AuthenticationError(str(error)) from error
    if not text.isascii() or not text.isprintable() or " " in text:
        raise AuthenticationError(f"{what}: expected printable ASCII without blanks, found something else")
    lifetime_s = max(lifetime_s, _DEFAULT_LIFETIME_S)
    return _Token(f"Bearer {text}", now_s + lifetime_s - _EARLY_S)
