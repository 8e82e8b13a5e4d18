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

Format: composefs-rs 0.9.0, `RepoMetadata`.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Final, NamedTuple, cast

from cfsctl.digest import LG_BLOCKSIZE, Algorithm
from cfsctl.erofs.format import FormatVersion
from cfsctl.errors import FormatError, RepositoryError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import NoReturn

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

_Json = object
_Pairs = list[tuple[str, _Json]]


class ConfigError(FormatError):
    """A meta.json that does not follow its format."""


class UnsupportedFeatureError(RepositoryError):
    """A repository made by a newer program, with something that this one does not know."""


class AlgorithmMismatchError(RepositoryError):
    """A repository whose hash algorithm is not the one that was asked for."""


def parse_algorithm(text: str) -> Algorithm:
    """Return the algorithm that ``fsverity-<hash>-<lg_blocksize>`` names.

    Raises:
        ConfigError: Another form, hash or block size.
    """
    rest = text.removeprefix("fsverity-")
    if rest == text:
        raise ConfigError("algorithm must start with 'fsverity-'", field="algorithm")
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
            expected: The algorithm that is asked for, or None for whichever it has.

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
    formats: dict[str, _Json] = {"default": int(config.default_format)}
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
    document = _Fields(_decode(data), "")
    version = _check_u32(document.get("version"), "version")
    algorithm = parse_algorithm(_check_string(document.get("algorithm"), "algorithm"))
    features = document.get_object("features")
    formats = document.get_object("erofs_formats")
    default, extra = (FormatVersion.V2, ()) if formats is None else _parse_formats(formats)
    return Config(
        algorithm,
        default,
        extra,
        version,
        _parse_names(features, "compatible"),
        _parse_names(features, "read-only-compatible"),
        _parse_names(features, "incompatible"),
    )


def _decode(data: bytes) -> _Json:
    if len(data) > MAX_META_BYTES:
        raise ConfigError(f"{META_NAME}: more than {MAX_META_BYTES} bytes")
    try:
        text = data.decode("utf-8")
        return json.loads(text, object_pairs_hook=_Object, parse_constant=_refuse_constant)
    except UnicodeDecodeError as error:
        raise ConfigError(f"{META_NAME}: not UTF-8", offset=error.start) from error
    except json.JSONDecodeError as error:
        raise ConfigError(f"{META_NAME}: {error.msg} at line {error.lineno} column {error.colno}") from error
    except RecursionError as error:
        raise ConfigError(f"{META_NAME}: nested too deeply") from error
    except ValueError as error:
        # A number of thousands of digits, which `int` refuses, or one of the constants.
        raise ConfigError(f"{META_NAME}: {error}") from error


class _Object(_Pairs):
    """A JSON object as its pairs, so that repeated keys can be seen."""


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a number")


class _Fields:
    """Typed access to the keys of one JSON object; errors name the whole key."""

    def __init__(self, value: _Json, prefix: str) -> None:
        if not isinstance(value, _Object):
            raise _wrong_type(value, prefix.rstrip(".") or "the document", "an object")
        self._pairs = value
        self._prefix = prefix

    def find(self, name: str) -> tuple[_Json] | None:
        """Return the value in a tuple, or None if the key is missing."""
        values = [value for key, value in self._pairs if key == name]
        if len(values) > 1:
            raise _error(f"duplicate field `{name}`", self._prefix + name)
        return (values[0],) if values else None

    def get(self, name: str) -> _Json:
        found = self.find(name)
        if found is None:
            raise _error(f"missing field `{name}`", self._prefix + name)
        return found[0]

    def get_object(self, name: str) -> _Fields | None:
        found = self.find(name)
        return None if found is None else _Fields(found[0], f"{self._prefix}{name}.")


def _error(message: str, field: str) -> ConfigError:
    return ConfigError(f"{META_NAME}: {message}", field=field)


def _wrong_type(value: _Json, field: str, expected: str) -> ConfigError:
    kind = "an object" if isinstance(value, _Object) else type(value).__name__
    return _error(f"{field}: expected {expected}, found {kind}", field)


def _check_u32(value: _Json, field: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise _wrong_type(value, field, "an integer")
    if not 0 <= value <= _MAX_U32:
        raise _error(f"{field}: {value} is not between 0 and {_MAX_U32}", field)
    return value


def _check_string(value: _Json, field: str) -> str:
    if not isinstance(value, str):
        raise _wrong_type(value, field, "a string")
    return value


def _check_list(value: _Json, field: str) -> Sequence[_Json]:
    if not isinstance(value, list) or isinstance(value, _Object):
        raise _wrong_type(value, field, "a list")
    return cast("list[_Json]", value)


def _check_format(value: _Json, field: str) -> FormatVersion:
    number = _check_u32(value, field)
    try:
        return FormatVersion(number)
    except ValueError as error:
        raise _error(f"{field}: invalid value: {number}, expected one of: 0, 1, 2", field) from error


def _parse_names(features: _Fields | None, name: str) -> tuple[str, ...]:
    found = features.find(name) if features is not None else None
    if found is None:
        return ()
    field = f"features.{name}"
    return tuple(_check_string(value, field) for value in _check_list(found[0], field))


def _parse_formats(formats: _Fields) -> tuple[FormatVersion, tuple[FormatVersion, ...]]:
    default = _check_format(formats.get("default"), "erofs_formats.default")
    found = formats.find("extra")
    if found is None:
        return default, ()
    values = _check_list(found[0], "erofs_formats.extra")
    return default, tuple(sorted({_check_format(value, "erofs_formats.extra") for value in values}))
