"""meta.json: bytes, strictness, and what follows from it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cfsctl.digest import Algorithm
from cfsctl.erofs.format import FormatVersion
from cfsctl.fsverity.merkle import compute_digest
from cfsctl.repository.metadata.config import (
    AlgorithmMismatchError,
    Config,
    ConfigError,
    UnsupportedFeatureError,
    format_config,
    parse_algorithm,
    parse_config,
)

VECTORS = Path(__file__).parents[3] / "vectors" / "repository"
V0, V1, V2 = FormatVersion
SHA256, SHA512 = Algorithm


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("algorithm", list(Algorithm))
def test_bytes_are_those_of_the_original(algorithm: Algorithm, version: int) -> None:
    expected = (VECTORS / f"{algorithm.hash_name}-erofs{version}-insecure.json").read_bytes()
    config = Config.new(algorithm, FormatVersion(version))
    assert format_config(config) == expected
    assert parse_config(expected) == config


# fs-verity digests of the file, by which a secure original's meta.json is protected; the first 16 digits.
DIGESTS = {
    (SHA512, V1, ()): (219, "5b3815f3e40538e4"),
    (SHA512, V2, ()): (197, "8d2979f469e83824"),
    (SHA512, V0, ()): (197, "b9b26ef50b4cb4d8"),
    (SHA256, V0, ()): (197, "186b371d0f461d93"),
    (SHA256, V1, ()): (219, "325064e24ce65bf3"),
    (SHA256, V2, ()): (197, "011b9c27ceb90faf"),
    (SHA256, V1, (V2,)): (249, "352151baec485911"),
}


@pytest.mark.parametrize("case", DIGESTS, ids=str)
def test_protected_bytes(case: tuple[Algorithm, FormatVersion, tuple[FormatVersion, ...]]) -> None:
    algorithm, default, extra = case
    size, digest = DIGESTS[case]
    new = Config.new(algorithm, default)
    config = Config(algorithm, default, extra, read_only_compatible=new.read_only_compatible)
    data = format_config(config)
    assert (len(data), compute_digest(data, algorithm).hex()[:16]) == (size, digest)
    assert parse_config(data) == config


def minimal(**fields: object) -> bytes:
    return json.dumps({"version": 1, "algorithm": "fsverity-sha512-12"} | fields).encode()


def test_little_is_required() -> None:
    assert parse_config(minimal()) == Config(SHA512)
    assert parse_config(minimal(version=0)).version == 0
    assert parse_config(minimal(other=[1, {"a": None}], features={"more": 1})) == Config(SHA512)
    assert parse_config(b' {"algorithm":"fsverity-sha256-12", "version":1} \n').algorithm is SHA256


def test_extra_formats_are_a_set() -> None:
    config = parse_config(minimal(erofs_formats={"default": 1, "extra": [2, 0, 2, 1]}))
    assert config.extra_formats == (V0, V1, V2)
    assert config.image_formats == (V1, V0, V2)


FORMATS = {
    "nothing said": ({}, (V2,)),
    "flag alone": ({"features": {"read-only-compatible": ["v1_erofs"]}}, (V1,)),
    "flag wins over an explicit 2": (
        {"features": {"read-only-compatible": ["v1_erofs"]}, "erofs_formats": {"default": 2}},
        (V1,),
    ),
    "flag loses against anything else": (
        {"features": {"read-only-compatible": ["v1_erofs"]}, "erofs_formats": {"default": 0}},
        (V0,),
    ),
    "an explicit 2 with extra": (
        {
            "features": {"read-only-compatible": ["v1_erofs"]},
            "erofs_formats": {"default": 2, "extra": [1]},
        },
        (V2, V1),
    ),
    "explicit 1": ({"erofs_formats": {"default": 1}}, (V1,)),
}


@pytest.mark.parametrize(("fields", "formats"), FORMATS.values(), ids=FORMATS.keys())
def test_effective_formats(fields: dict[str, object], formats: tuple[FormatVersion, ...]) -> None:
    assert parse_config(minimal(**fields)).image_formats == formats


BROKEN = {
    "empty": b"",
    "blank": b" \n",
    "not JSON": b"junk",
    "byte order mark": b"\xef\xbb\xbf" + minimal(),
    "UTF-16": minimal().decode().encode("utf-16"),
    "not UTF-8": b'{"version":1,"algorithm":"fsverity-sha512-12","x":"\xff"}',
    "something behind": minimal() + b" x",
    "a list": b"[]",
    "a string": b'"x"',
    "no algorithm": b'{"version":1}',
    "no version": b'{"algorithm":"fsverity-sha512-12"}',
    "negative version": minimal(version=-1),
    "version too large": minimal(version=1 << 32),
    "version with a fraction": minimal(version=1.0),
    "version as text": minimal(version="1"),
    "version true": minimal(version=True),
    "version null": minimal(version=None),
    "version of many digits": b'{"version":' + b"1" * 5000 + b"}",
    "version NaN": b'{"version":NaN,"algorithm":"fsverity-sha512-12"}',
    "algorithm of another type": minimal(algorithm=1),
    "other hash": minimal(algorithm="fsverity-md5-12"),
    "other block size": minimal(algorithm="fsverity-sha512-16"),
    "version twice": b'{"version":1,"version":1,"algorithm":"fsverity-sha512-12"}',
    "features null": minimal(features=None),
    "features a list": minimal(features=[]),
    "flags null": minimal(features={"compatible": None}),
    "flags an object": minimal(features={"compatible": {}}),
    "flag a number": minimal(features={"incompatible": [1]}),
    "flags twice": b'{"version":1,"algorithm":"fsverity-sha512-12","features":'
    b'{"compatible":[],"compatible":[]}}',
    "formats null": minimal(erofs_formats=None),
    "formats without default": minimal(erofs_formats={}),
    "unknown format": minimal(erofs_formats={"default": 3}),
    "format true": minimal(erofs_formats={"default": True}),
    "unknown extra format": minimal(erofs_formats={"default": 1, "extra": [7]}),
    "extra null": minimal(erofs_formats={"default": 1, "extra": None}),
    "nested too deeply": b'{"x":' * 100_000,
    "huge": minimal(x="x" * (1 << 20)),
}


@pytest.mark.parametrize("data", BROKEN.values(), ids=BROKEN.keys())
def test_broken(data: bytes) -> None:
    with pytest.raises(ConfigError):
        parse_config(data)


def test_unknown_keys_may_repeat() -> None:
    data = b'{"version":1,"x":1,"x":2,"algorithm":"fsverity-sha512-12"}'
    assert parse_config(data) == Config(SHA512)


def test_error_names_the_field() -> None:
    with pytest.raises(
        ConfigError, match=r"meta\.json: erofs_formats\.default: expected a number, found nothing"
    ) as caught:
        parse_config(minimal(erofs_formats={}))
    assert caught.value.field == "erofs_formats.default"


ALGORITHM_TEXTS = {
    "": "must start with",
    "sha256": "must start with",
    "fsverity-": "must be",
    "fsverity-sha256": "must be",
    "fsverity-md5-12": "unsupported hash algorithm 'md5'",
    "fsverity-SHA256-12": "unsupported hash algorithm 'SHA256'",
    "fsverity-sha256-x": "invalid lg_blocksize 'x'",
    "fsverity-sha256-256": "invalid lg_blocksize '256'",
    "fsverity-sha256-13": "unsupported lg_blocksize 13",
    "fsverity-md5-13": "unsupported lg_blocksize 13",
    "fsverity--12": "unsupported hash algorithm ''",
    "fsverity-sha256--12": "unsupported hash algorithm 'sha256-'",
}


@pytest.mark.parametrize(("text", "message"), ALGORITHM_TEXTS.items())
def test_algorithm_is_refused(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_algorithm(text)


@pytest.mark.parametrize("text", ["fsverity-sha256-12", "fsverity-sha256-012", "fsverity-sha256-+12"])
def test_algorithm_is_taken(text: str) -> None:
    assert parse_algorithm(text) is SHA256


def test_what_is_supported() -> None:
    Config.new(SHA512).check_supported(SHA512)
    Config(SHA512, compatible=("x",), read_only_compatible=("y",)).check_supported()
    with pytest.raises(UnsupportedFeatureError, match="format version 2"):
        Config(SHA512, version=2, incompatible=("a",)).check_supported(SHA256)
    with pytest.raises(AlgorithmMismatchError, match=r"sha512-12 does not match expected fsverity-sha256-12"):
        Config(SHA512, incompatible=("a",)).check_supported(SHA256)
    with pytest.raises(UnsupportedFeatureError, match=r'\["b", "a"\]'):
        Config(SHA512, incompatible=("b", "a")).check_supported()


def test_features_that_forbid_writing() -> None:
    assert Config.new(SHA512).unknown_read_only_features == ()
    config = Config(SHA512, read_only_compatible=("v1_erofs", "new"))
    assert config.unknown_read_only_features == ("new",)


def test_differences_are_named() -> None:
    one = Config.new(SHA512, V1)
    other = Config(SHA256, V1, (V2,))
    assert one.list_differences(one) == []
    assert one.list_differences(other) == [
        "algorithm",
        "features.read-only-compatible",
        "erofs_formats.extra",
    ]
