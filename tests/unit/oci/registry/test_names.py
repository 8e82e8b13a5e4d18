"""Names of images in registries."""

from __future__ import annotations

import pytest

from cfsctl.oci.digest import OciDigestError
from cfsctl.oci.reference import ImageReferenceError
from cfsctl.oci.registry.names import parse_image_name, server_of

DIGEST = "sha256:" + "a" * 64


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("alpine", "docker.io/library/alpine:latest"),
        ("alpine:3", "docker.io/library/alpine:3"),
        ("docker.io/alpine", "docker.io/library/alpine:latest"),
        ("index.docker.io/a/b", "docker.io/a/b:latest"),
        ("team/image", "docker.io/team/image:latest"),
        ("quay.io/a/b/c:v1.0_x-y", "quay.io/a/b/c:v1.0_x-y"),
        ("localhost/a", "localhost/a:latest"),
        ("localhost:5000/a:b", "localhost:5000/a:b"),
        ("host:5000/a", "host:5000/a:latest"),
        ("[::1]:5000/a", "[::1]:5000/a:latest"),
        (f"quay.io/a@{DIGEST}", f"quay.io/a@{DIGEST}"),
        (f"quay.io/a:t@{DIGEST}", f"quay.io/a:t@{DIGEST}"),
        ("quay.io/a__b/c--d", "quay.io/a__b/c--d:latest"),
    ],
)
def test_names(text: str, expected: str) -> None:
    assert str(parse_image_name(text)) == expected


@pytest.mark.parametrize(
    "text",
    [
        "quay.io/",
        "quay.io/A",
        "quay.io/a/../b",
        "quay.io//a",
        "quay.io/a:",
        "quay.io/a:-t",
        "quay.io/a:" + "t" * 129,
        "user@quay.io/a",
        "quay.io/a?b",
        "quay.io/a#b",
        "quay.io/a b",
        "-x.io/a",
        "quay.io:port/a",
        "a" * 256,
    ],
)
def test_no_names(text: str) -> None:
    with pytest.raises((ImageReferenceError, OciDigestError)):
        parse_image_name(text)


def test_what_the_registry_is_asked_for() -> None:
    name = parse_image_name(f"quay.io/a:t@{DIGEST}")
    assert (name.reference, name.repository) == (DIGEST, "quay.io/a")
    assert server_of("docker.io") == "registry-1.docker.io"
    assert server_of("quay.io:5000") == "quay.io:5000"


@pytest.mark.parametrize(
    "text", ["me:secret@host/x", "me:secret@127.0.0.1:1", "secret@host:1/x:y", "a:secret@"]
)
def test_credentials_in_a_name_are_refused_and_not_shown(text: str) -> None:
    with pytest.raises(ImageReferenceError, match="expected a digest after the @") as caught:
        parse_image_name(text)
    assert "secret" not in str(caught.value)
