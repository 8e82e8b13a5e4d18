"""``registries.conf``: where images really are, which mirrors to ask first, and which servers are insecure.

Format: containers-registries.conf(5), version 2, and of version 1 what is insecure and blocked. Short names
and aliases mean nothing here, as a name without a host is one of Docker Hub's for every program where
``docker://`` stands before it. A name is rewritten once: what comes out is looked up in no other entry, so
that entries cannot lead to each other for ever.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NamedTuple

from cfsctl.errors import CfsError, ExitCode
from cfsctl.json_fields import JsonError, parse_toml
from cfsctl.oci.registry.files import RegistryConfigError, read_config_file
from cfsctl.oci.registry.names import find_fault, has_host, split_host

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from cfsctl.json_fields import JsonFields
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
        domain = "[^/]+" if self.is_wildcard else ""
        # A host without a port stands for all its ports, as for podman and skopeo.
        found = re.match(domain + re.escape(self.prefix[bool(domain) :]) + "(?=[/:]|$)", name)
        return 0 if found is None else found.end()

    @property
    def is_wildcard(self) -> bool:
        """Whether the prefix stands for the hosts below a domain."""
        return self.prefix.startswith("*.")


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
    """Return what one file configures; of two entries for one prefix the first one counts.

    Raises:
        RegistryConfigError: It is not valid.
    """
    try:
        fields = parse_toml(data, path)
        found: dict[str, Registry] = {}
        for registry in _iter_registries(fields):
            found.setdefault(registry.prefix, registry)
        return list(found.values())
    except JsonError as error:
        raise RegistryConfigError(str(error), field=error.field) from error


def _iter_registries(fields: JsonFields) -> Iterator[Registry]:
    entries = fields.find_list_of_fields("registry")
    yield from map(_parse_registry, entries)
    old = fields.find_fields("registries")  # of version 1
    if old is None:
        return
    blocked, insecure = _find_names(old, "block"), _find_names(old, "insecure")
    if entries and (blocked or insecure):
        fields.fail("registries", "entries of one version of the format", "[[registry]] as well")
    for name in {*blocked, *insecure}:
        yield Registry(name, name, name in insecure, name in blocked, ())


def _find_names(fields: JsonFields, key: str) -> list[str]:
    table = fields.find_fields(key)
    names = [] if table is None or not table.has("registries") else table.get_list_of_strings("registries")
    return [name.rstrip("/") for name in names if name.rstrip("/")]


def _parse_registry(fields: JsonFields) -> Registry:
    location = _find_place(fields, "location")
    prefix = _find_place(fields, "prefix") or location
    if not prefix:
        fields.fail("prefix", "a host, or host and path", "nothing")
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
    location = _find_place(fields, "location")
    if not location:
        fields.fail("location", "a host, or host and path", "nothing")
    return Mirror(location, fields.find_bool("insecure") or False, pulls)


def _find_place(fields: JsonFields, key: str) -> str:
    text = (fields.find_string(key) or "").rstrip("/")
    if "://" in text:
        fields.fail(key, "a host, or host and path", f"a URL, {text[:200]!r}")
    return text


def find_endpoints(registries: Iterable[Registry], name: ImageName) -> list[Endpoint]:
    """Return where to ask for an image, in this order.

    Raises:
        RegistryBlockedError: The configuration forbids it.
        RegistryConfigError: It leads to what is no name.
    """
    matching = [registry for registry in registries if registry.match(name.repository)]
    best = max(matching, key=lambda registry: len(registry.prefix), default=None)
    if best is None:
        return [Endpoint(name.host, name.path)]
    if best.blocked:
        raise RegistryBlockedError(f"{name}: registries.conf blocks {best.prefix}")
    kind = "tag-only" if name.digest is None else "digest-only"
    places = [(mirror.location, mirror.insecure) for mirror in best.mirrors if mirror.pulls in {"all", kind}]
    length = best.match(name.repository)
    own = best.location or (name.repository[:length] if best.is_wildcard else best.prefix)
    places.append((own, best.insecure))
    rest = name.repository[length:]
    endpoints = [_make_endpoint(best, location + rest, insecure) for location, insecure in places]
    last = endpoints.pop()
    # Nothing is asked twice, and the registry itself last.
    return [*(dict.fromkeys(found for found in endpoints if found != last)), last]


def _make_endpoint(registry: Registry, repository: str, insecure: bool) -> Endpoint:  # noqa: FBT001 - one call
    host, path = split_host(repository)
    fault = find_fault(host, path) if has_host(repository) else f"expected a host, found {repository!r}"
    if fault is not None:
        raise RegistryConfigError(
            f"registries.conf: prefix {registry.prefix}: it leads to {repository[:500]!r}: {fault}",
            hint="a location is HOST[:PORT] or HOST[:PORT]/PATH; a HOST has a dot or a port, or is localhost",
        )
    return Endpoint(host, path, insecure)
