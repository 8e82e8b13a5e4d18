"""``meta.json``: which hash a repository uses, which image formats, and what a reader must know.

    {
      "version": 1,
      "algorithm": "fsverity-sha512-12",
      "features": {"compatible": [], "read-only-compatible": ["v1_erofs"], "incompatible": []},
      "erofs_formats": {"default": 1}
    }

Written with two blanks of indentation, in this order of keys, with one newline at the end, so that equal
configurations are equal bytes. Whether a repository is secure is not a field: it is whether the file
itself has fs-verity.

Format: composefs-rs 0.9.4, `RepoMetadata`.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Final, NamedTuple

from cfsctl.digest import LG_BLOCKSIZE, Algorithm
from cfsctl.erofs.format import FormatVersion
from cfsctl.errors import FormatError, RepositoryError
from cfsctl.json_fields import JsonError, parse_object

if TYPE_CHECKING:
    from cfsctl.json_fields import JsonFields

META_NAME: Final = "meta.json"
FORMAT_VERSION: Final = 1
"""Newest version of the repository format that is understood, and the one that is written."""

MAX_META_BYTES: Final = 1 << 20
"""Most that is read of a meta.json; one with every known field has a few hundred bytes."""

_MAX_U32: Final = 0xFFFFFFFF
_V1_EROFS: Final = "v1_erofs"
_KNOWN_READ_ONLY: Final = frozenset({_V1_EROFS})
_KNOWN_INCOMPATIBLE: Final = frozenset[str]()

_NUMBER = re.compile(r"\+?[0-9]+\Z")


class ConfigError(FormatError):
    """A meta.json that does not follow its format."""


class UnsupportedFeatureError(RepositoryError):
    """A repository made by a newer program, with something that this one does not know."""


class AlgorithmMismatchError(RepositoryError):
    """A repository whose hash algorithm is not the one that was requested."""


def parse_algorithm(text: str) -> Algorithm:
    """Return the algorithm that ``fsverity-<hash>-<lg_blocksize>`` names.

    Raises:
        ConfigError: Another form, hash or block size.
    """
    rest = text.removeprefix("fsverity-")
    if rest == text:
        raise ConfigError(
            f"algorithm must start with 'fsverity-', found '{text}':"
            " expected fsverity-sha512-12 or fsverity-sha256-12",
            field="algorithm",
        )
    hash_name, dash, lg_blocksize = rest.rpartition("-")
    if not dash:
        raise ConfigError("algorithm must be 'fsverity-<hash>-<lg_blocksize>'", field="algorithm")
    if not _NUMBER.match(lg_blocksize) or int(lg_blocksize) > 255:
        raise ConfigError(f"invalid lg_blocksize '{lg_blocksize}'", field="algorithm")
    if int(lg_blocksize) != LG_BLOCKSIZE:
        raise ConfigError(
            f"unsupported lg_blocksize {int(lg_blocksize)} (only {LG_BLOCKSIZE} is currently supported)",
            field="algorithm",
        )
    try:
        return Algorithm.from_hash_name(hash_name)
    except ValueError as error:
        raise ConfigError(str(error), field="algorithm") from error


class Config(NamedTuple):
    """The content of a meta.json.

    Attributes:
        algorithm: Hash algorithm of all object IDs.
        default_format: Image format as the file has it; see `image_formats` for what holds.
        extra_formats: Further formats of which images are made, ascending.
        version: Version of the repository format.
        compatible: Feature flags that may be ignored.
        read_only_compatible: Feature flags that a writer must know.
        incompatible: Feature flags that everyone must know.
    """

    algorithm: Algorithm
    default_format: FormatVersion = FormatVersion.V2
    extra_formats: tuple[FormatVersion, ...] = ()
    version: int = FORMAT_VERSION
    compatible: tuple[str, ...] = ()
    read_only_compatible: tuple[str, ...] = ()
    incompatible: tuple[str, ...] = ()

    @classmethod
    def new(cls, algorithm: Algorithm, default_format: FormatVersion = FormatVersion.V1) -> Config:
        """Return the configuration of a new repository."""
        flags = (_V1_EROFS,) if default_format is FormatVersion.V1 else ()
        return cls(algorithm, default_format, read_only_compatible=flags)

    @property
    def image_formats(self) -> tuple[FormatVersion, ...]:
        """Formats of which images are made; the first is the one that a name stands for."""
        if self.default_format is not FormatVersion.V2 or self.extra_formats:
            default = self.default_format
            return (default, *(extra for extra in self.extra_formats if extra is not default))
        # Before there was a field the flag alone stood for V1; the original reads it so to this day.
        return (FormatVersion.V1,) if _V1_EROFS in self.read_only_compatible else (FormatVersion.V2,)

    @property
    def unknown_read_only_features(self) -> tuple[str, ...]:
        """Flags that forbid us to write."""
        return tuple(name for name in self.read_only_compatible if name not in _KNOWN_READ_ONLY)

    def check_supported(self, expected: Algorithm | None = None) -> None:
        """Check that this program can work with the repository.

        Args:
            expected: The algorithm that is requested, or None for whichever it has.

        Raises:
            UnsupportedFeatureError: A newer format version or an unknown incompatible feature.
            AlgorithmMismatchError: Another algorithm.
        """
        if self.version > FORMAT_VERSION:
            raise UnsupportedFeatureError(
                f"unsupported repository format version {self.version}"
                f" (this tool supports up to {FORMAT_VERSION})"
            )
        if expected not in {None, self.algorithm}:
            assert expected is not None
            raise AlgorithmMismatchError(
                f"repository algorithm {self.algorithm.label} does not match expected {expected.label}"
            )
        unknown = [name for name in self.incompatible if name not in _KNOWN_INCOMPATIBLE]
        if unknown:
            raise UnsupportedFeatureError(
                f"repository requires unknown incompatible features: {json.dumps(unknown)}"
            )

    def list_differences(self, other: Config) -> list[str]:
        """Return the names of the fields, as the file spells them, in which two configurations differ."""
        pairs = (
            ("version", self.version, other.version),
            ("algorithm", self.algorithm, other.algorithm),
            ("features.compatible", self.compatible, other.compatible),
            ("features.read-only-compatible", self.read_only_compatible, other.read_only_compatible),
            ("features.incompatible", self.incompatible, other.incompatible),
            ("erofs_formats.default", self.default_format, other.default_format),
            ("erofs_formats.extra", self.extra_formats, other.extra_formats),
        )
        return [name for name, ours, theirs in pairs if ours != theirs]


def format_config(config: Config) -> bytes:
    """Return the bytes of the meta.json that stands for a configuration."""
    formats: dict[str, object] = {"default": int(config.default_format)}
    if config.extra_formats:
        formats["extra"] = [int(version) for version in config.extra_formats]
    document = {
        "version": config.version,
        "algorithm": config.algorithm.label,
        "features": {
            "compatible": list(config.compatible),
            "read-only-compatible": list(config.read_only_compatible),
            "incompatible": list(config.incompatible),
        },
        "erofs_formats": formats,
    }
    return (json.dumps(document, indent=2, ensure_ascii=False) + "\n").encode()


def parse_config(data: bytes) -> Config:
    """Decode a meta.json; unknown keys are ignored, known ones are taken strictly.

    Raises:
        ConfigError: Not JSON in UTF-8, a field of the wrong type, a missing or a repeated one.
    """
    if len(data) > MAX_META_BYTES:
        raise ConfigError(f"{META_NAME}: expected at most {MAX_META_BYTES} bytes, found {len(data)}")
    try:
        return _parse(parse_object(data, META_NAME, _KEYS))
    except JsonError as error:
        raise ConfigError(str(error), field=error.field) from error


_FLAGS: Final = ("compatible", "read-only-compatible", "incompatible")
_KEYS: Final = frozenset({"version", "algorithm", "features", "erofs_formats", "default", "extra", *_FLAGS})


def _parse(document: JsonFields) -> Config:
    version = document.get_size("version")
    if version > _MAX_U32:
        document.fail("version", f"a number from 0 to {_MAX_U32}", version)
    algorithm = parse_algorithm(document.get_string("algorithm"))
    # A null is not the same as a key that is missing: the original refuses it.
    features = document.get_fields("features") if document.has("features") else None
    formats = document.get_fields("erofs_formats") if document.has("erofs_formats") else None
    default, extra = (FormatVersion.V2, ()) if formats is None else _parse_formats(formats)
    return Config(algorithm, default, extra, version, *(_parse_names(features, name) for name in _FLAGS))


def _parse_names(features: JsonFields | None, name: str) -> tuple[str, ...]:
    if features is None or not features.has(name):
        return ()
    return tuple(features.get_list_of_strings(name))


def _parse_formats(formats: JsonFields) -> tuple[FormatVersion, tuple[FormatVersion, ...]]:
    default = _check_format(formats, "default", formats.get_size("default"))
    if not formats.has("extra"):
        return default, ()
    numbers = formats.get_list_of_sizes("extra")
    return default, tuple(sorted({_check_format(formats, "extra", number) for number in numbers}))


def _check_format(formats: JsonFields, key: str, number: int) -> FormatVersion:
    try:
        return FormatVersion(number)
    except ValueError:
        formats.fail(key, "one of 0, 1, 2", number)
