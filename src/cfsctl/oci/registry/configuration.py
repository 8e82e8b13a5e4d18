"""``registries.conf``: where images really are, which mirrors to ask first, and which servers are insecure.

Format: containers-registries.conf(5), version 2. Short names and aliases mean nothing here, as a name without
a host is one of Docker Hub's for every program where ``docker://`` stands before it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from cfsctl.errors import CfsError, ExitCode
from cfsctl.json_fields import JsonError, JsonFields
from cfsctl.oci.registry.files import RegistryConfigError, read_config_file
from cfsctl.oci.registry.names import split_host

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cfsctl.oci.registry.names import ImageName

_PULLS: Final = frozenset({"all", "digest-only", "tag-only"})


class RegistryBlockedError(CfsError):
    """A registry that the configuration forbids."""

    exit_code = ExitCode.POLICY


class Mirror(NamedTuple):
    """Another place of the same images.

    Attributes:
        location: Host and path in place of the prefix.
        insecure: Whether it may do without TLS or a valid certificate.
        pulls: ``all``, ``digest-only`` or ``tag-only``.
    """

    location: str
    insecure: bool
    pulls: str = "all"


class Registry(NamedTuple):
    """What is configured for the images below a prefix.

    Attributes:
        prefix: Host, or host and path; ``*.`` in front is any host below a domain.
        location: What stands in its place; empty is the same.
        insecure: Whether it may do without TLS or a valid certificate.
        blocked: Whether nothing may be pulled from it.
        mirrors: Asked before, in this order.
    """

    prefix: str
    location: str
    insecure: bool
    blocked: bool
    mirrors: tuple[Mirror, ...]

    def match(self, name: str) -> int:
        """Return how many characters of a name without tag the prefix stands for, or 0 if it does not."""
        if self.prefix.startswith("*."):
            host = name.partition("/")[0]
            return len(host) if host.partition(":")[0].endswith(self.prefix[1:]) else 0
        is_below = name == self.prefix or name.startswith(f"{self.prefix}/")
        return len(self.prefix) if is_below else 0


class Endpoint(NamedTuple):
    """One place to ask for an image.

    Attributes:
        host: Registry, with its port if it has another than the usual one.
        path: Repository in it.
        insecure: Whether it may do without TLS or a valid certificate.
    """

    host: str
    path: str
    insecure: bool = False

    @property
    def repository(self) -> str:
        """Host and path."""
        return f"{self.host}/{self.path}"


def read_registries(paths: Iterable[str]) -> tuple[Registry, ...]:
    """Return what some files configure; of two entries for one prefix the later one counts.

    Raises:
        RegistryConfigError: A file is not valid.
        OSError: A file cannot be read.
    """
    found: dict[str, Registry] = {}
    for path in paths:
        data = read_config_file(path)
        if data is not None:
            found |= {registry.prefix: registry for registry in parse_registries(data, path)}
    return tuple(found.values())


def parse_registries(data: bytes, path: str) -> list[Registry]:
    """Return what one file configures.

    Raises:
        RegistryConfigError: It is not valid.
    """
    import tomllib  # most machines have no such file

    try:
        fields = JsonFields(tomllib.loads(data.decode()), path)
        return [_parse_registry(entry) for entry in fields.find_list_of_fields("registry")]
    except (ValueError, RecursionError) as error:
        if isinstance(error, JsonError):
            raise RegistryConfigError(str(error), field=error.field) from error
        raise RegistryConfigError(f"{path}: expected TOML: {error}") from error


def _parse_registry(fields: JsonFields) -> Registry:
    location = (fields.find_string("location") or "").rstrip("/")
    prefix = (fields.find_string("prefix") or location).rstrip("/")
    if not prefix:
        fields.fail("prefix", "a host, or host and path", "nothing")
    if prefix.startswith("*.") and location:
        fields.fail("location", "nothing beside a prefix with a wildcard", repr(location))
    return Registry(
        prefix,
        location,
        fields.find_bool("insecure") or False,
        fields.find_bool("blocked") or False,
        tuple(_parse_mirror(mirror, fields) for mirror in fields.find_list_of_fields("mirror")),
    )


def _parse_mirror(fields: JsonFields, registry: JsonFields) -> Mirror:
    pulls = fields.find_string("pull-from-mirror") or "all"
    if pulls not in _PULLS:
        fields.fail("pull-from-mirror", f"one of {', '.join(sorted(_PULLS))}", repr(pulls))
    if registry.find_bool("mirror-by-digest-only"):
        pulls = "digest-only"
    location = fields.get_string("location").rstrip("/")
    return Mirror(location, fields.find_bool("insecure") or False, pulls)


def find_endpoints(registries: Iterable[Registry], name: ImageName) -> list[Endpoint]:
    """Return where to ask for an image, in this order.

    Raises:
        RegistryBlockedError: The configuration forbids it.
    """
    best = max(registries, key=lambda registry: registry.match(name.repository), default=None)
    length = best.match(name.repository) if best else 0
    if best is None or not length:
        return [Endpoint(name.host, name.path)]
    if best.blocked:
        raise RegistryBlockedError(f"{name}: registries.conf blocks {best.prefix}")
    rest = name.repository[length:]
    kind = "tag-only" if name.digest is None else "digest-only"
    places = [(mirror.location, mirror.insecure) for mirror in best.mirrors if mirror.pulls in {"all", kind}]
    places.append((best.location or name.repository[:length], best.insecure))
    return [_make_endpoint(location + rest, insecure) for location, insecure in places]


def _make_endpoint(repository: str, insecure: bool) -> Endpoint:  # noqa: FBT001 - one call
    host, path = split_host(repository)
    return Endpoint(host, path, insecure)
