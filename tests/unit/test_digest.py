from __future__ import annotations

import pytest

from cfsctl.digest import (
    Algorithm,
    DigestFormatError,
    ObjectID,
    object_path,
    parse_checksum,
    parse_object_id,
    parse_object_path,
    qualified,
)

SHA256_ID = ObjectID(bytes(range(32)))
SHA512_ID = ObjectID(bytes(range(64)))


@pytest.mark.parametrize(
    ("algorithm", "label", "size"),
    [(Algorithm.SHA256, "fsverity-sha256-12", 32), (Algorithm.SHA512, "fsverity-sha512-12", 64)],
)
def test_algorithm_knows_its_label_and_digest_size(algorithm: Algorithm, label: str, size: int) -> None:
    assert algorithm.label == label
    assert algorithm.digest_size == size
    assert Algorithm.of_digest(bytes(size)) is algorithm
    assert Algorithm.from_hash_name(algorithm.hash_name) is algorithm


def test_unknown_names_and_sizes_have_no_algorithm() -> None:
    with pytest.raises(ValueError, match="unsupported hash algorithm 'md5'"):
        Algorithm.from_hash_name("md5")
    with pytest.raises(ValueError, match="digests of 20 bytes"):
        Algorithm.of_digest(bytes(20))


@pytest.mark.parametrize("object_id", [SHA256_ID, SHA512_ID])
def test_text_forms_lead_back_to_the_id(object_id: ObjectID) -> None:
    algorithm = Algorithm.of_digest(object_id)
    assert parse_object_id(object_id.hex(), algorithm) == object_id
    assert parse_object_path(object_path(object_id), algorithm) == object_id
    assert parse_object_path("../objects/" + object_path(object_id), algorithm) == object_id
    assert qualified(object_id) == f"{algorithm.hash_name}:{object_id.hex()}"


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="empty"),
        pytest.param("00" * 31, id="short"),
        pytest.param("00" * 33, id="long"),
        pytest.param("AB" * 32, id="upper-case"),
        pytest.param("0x" + "00" * 31, id="prefix"),
        pytest.param("\N{ARABIC-INDIC DIGIT ZERO}" * 64, id="other-digits"),
        pytest.param("00" * 31 + " 0", id="blank"),
        pytest.param("00" * 31 + "0\n", id="newline"),
    ],
)
def test_text_that_is_no_digest_is_refused(text: str) -> None:
    with pytest.raises(DigestFormatError):
        parse_object_id(text, Algorithm.SHA256)
    with pytest.raises(DigestFormatError):
        parse_checksum(text)


@pytest.mark.parametrize("path", ["", "ab", "/" * 65, "0" * 65, "a/" + "0" * 63, "00/" + "0" * 61 + "G"])
def test_path_that_is_no_object_path_is_refused(path: str) -> None:
    with pytest.raises(DigestFormatError):
        parse_object_path(path, Algorithm.SHA256)
