"""Pulls from a real registry, which skopeo has filled."""

from __future__ import annotations

import base64
import json
import stat
from typing import TYPE_CHECKING

import pytest

from cfsctl.digest import Algorithm
from cfsctl.errors import FetchError
from cfsctl.http import Transport
from cfsctl.oci.manifest import Platform
from cfsctl.oci.pull import pull
from cfsctl.oci.registry.client import AccessDeniedError
from cfsctl.oci.registry.settings import RegistrySettings
from cfsctl.oci.source import ImageNotFoundError
from cfsctl.oci.sources.opening import open_source
from tests.support.certificates import make_certificate
from tests.support.oci import Layout, directory, example_layers, file, make_tar
from tests.support.programs import run_cfsctl
from tests.support.registry import PASSWORD, USER, Registry, run_registry
from tests.support.repositories import make_repository

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from cfsctl.oci.pull import PullResult

AMD64 = Platform("linux", "amd64")
LARGE = make_tar([directory("usr"), file("usr/large", bytes(range(256)) * 12_000)])


@pytest.fixture(scope="module", params=["basic", "token"])
def registry(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    """Return a registry with TLS that has ``private/image`` in two tags, and an index."""
    work = tmp_path_factory.mktemp("registry")
    certificate = make_certificate(work)
    with run_registry(work, certificate, request.param) as running:
        layout = Layout(work / "layout")
        layout.add_image("t", example_layers())
        layout.add_image("large", [*example_layers(), LARGE])
        for tag in ("t", "large"):
            running.skopeo("copy", f"oci:{layout.path}:{tag}", f"docker://{running.host}/private/image:{tag}")
        yield running


@pytest.fixture(params=Transport, ids=lambda transport: transport.value)
def transport(request: pytest.FixtureRequest) -> Transport:
    chosen: Transport = request.param
    if chosen is Transport.CURL:
        pytest.importorskip("pycurl")
    return chosen


def settings_of(registry: Registry, transport: Transport | None = None) -> RegistrySettings:
    return RegistrySettings(
        auth_files=(str(registry.authfile),),
        certificate_directory=str(registry.certificates),
        transport=transport,
    )


def pull_image(path: Path, text: str, settings: RegistrySettings) -> PullResult:
    source = open_source(text, settings)
    try:
        with make_repository(path, Algorithm.SHA256) as repository:
            return pull(repository, source, "t", platform=AMD64)
    finally:
        source.close()


@pytest.mark.parametrize("tag", ["t", "large"])
def test_an_image_that_skopeo_has_pushed(
    registry: Registry, tag: str, transport: Transport, tmp_path: Path
) -> None:
    text = f"docker://{registry.host}/private/image:{tag}"
    found = json.loads(registry.skopeo("inspect", text))
    result = pull_image(tmp_path / "r", text, settings_of(registry, transport))
    assert str(result.manifest_digest) == found["Digest"]
    registry.skopeo("copy", text, f"oci:{tmp_path}/copy:t")
    copied = pull_image(tmp_path / "r2", f"oci:{tmp_path}/copy:t", RegistrySettings())
    assert (result.image, result.manifest_id) == (copied.image, copied.manifest_id)


def test_by_digest(registry: Registry, tmp_path: Path) -> None:
    name = f"docker://{registry.host}/private/image"
    digest = json.loads(registry.skopeo("inspect", f"{name}:t"))["Digest"]
    result = pull_image(tmp_path / "r", f"{name}@{digest}", settings_of(registry))
    assert str(result.manifest_digest) == digest


def test_an_image_in_docker_types(registry: Registry, tmp_path: Path) -> None:
    name = f"docker://{registry.host}/private/docker:t"
    registry.skopeo("copy", "--format", "v2s2", f"docker://{registry.host}/private/image:large", name)
    raw = json.loads(registry.skopeo("inspect", "--raw", name))
    assert raw["mediaType"].startswith("application/vnd.docker.")
    first = pull_image(tmp_path / "1", name, settings_of(registry))
    second = pull_image(tmp_path / "2", name, settings_of(registry))
    assert first.manifest_digest == second.manifest_digest
    plain = pull_image(tmp_path / "3", f"docker://{registry.host}/private/image:large", settings_of(registry))
    assert first.image == plain.image


def test_without_credentials(registry: Registry, tmp_path: Path) -> None:
    settings = RegistrySettings(certificate_directory=str(registry.certificates))
    with pytest.raises(AccessDeniedError, match=r"denies access to 127\.0\.0\.1:\d+/private/image"):
        pull_image(tmp_path / "r", f"docker://{registry.host}/private/image:t", settings)


def test_with_a_wrong_password(registry: Registry, tmp_path: Path) -> None:
    wrong = tmp_path / "auth.json"
    wrong.write_text(json.dumps({"auths": {registry.host: {"auth": base64.b64encode(b"a:b").decode()}}}))
    settings = RegistrySettings(auth_files=(str(wrong),), certificate_directory=str(registry.certificates))
    with pytest.raises(FetchError, match=r"denies access|gives no token to user a"):
        pull_image(tmp_path / "r", f"docker://{registry.host}/private/image:t", settings)


def test_a_tag_that_is_not_there(registry: Registry, tmp_path: Path) -> None:
    with pytest.raises(ImageNotFoundError, match="manifest nothing: not found in"):
        pull_image(tmp_path / "r", f"docker://{registry.host}/private/image:nothing", settings_of(registry))


def test_a_certificate_that_nobody_trusts(registry: Registry, tmp_path: Path) -> None:
    settings = RegistrySettings(auth_files=(str(registry.authfile),))
    with pytest.raises(FetchError, match=r"(?i)certificate|ssl") as caught:
        pull_image(tmp_path / "r", f"docker://{registry.host}/private/image:t", settings)
    assert "--cert-dir" in str(caught.value.hint)  # an option that there is for registries


def test_an_insecure_registry(registry: Registry, transport: Transport, tmp_path: Path) -> None:
    settings = RegistrySettings(auth_files=(str(registry.authfile),), verifies_tls=False, transport=transport)
    assert pull_image(tmp_path / "r", f"docker://{registry.host}/private/image:t", settings).image


def test_a_mirror_goes_first_and_the_registry_itself_last(registry: Registry, tmp_path: Path) -> None:
    configuration = tmp_path / "registries.conf"
    configuration.write_text(f"""
        [[registry]]
        prefix = "example.invalid/team"
        location = "{registry.host}/private"
        [[registry.mirror]]
        location = "{registry.host}/missing"
    """)
    settings = RegistrySettings(
        auth_files=(str(registry.authfile),),
        certificate_directory=str(registry.certificates),
        registries_files=(str(configuration),),
    )
    assert pull_image(tmp_path / "r", "docker://example.invalid/team/image:t", settings).image


class TestCommand:
    def test_with_options(self, registry: Registry, tmp_path: Path) -> None:
        make_repository(tmp_path / "r").close()
        done = run_cfsctl(
            *("--repo", tmp_path / "r", "oci", "pull", f"docker://{registry.host}/private/image:large"),
            *(
                "--authfile",
                registry.authfile,
                "--cert-dir",
                registry.certificates,
                "--platform",
                "linux/amd64",
            ),
        )
        assert done.returncode == 0, done.stderr
        assert f"tagged   docker://{registry.host}/private/image:large" in done.stdout
        assert run_cfsctl("--repo", tmp_path / "r", "oci", "fsck").returncode == 0

    def test_with_the_files_of_the_environment_and_a_helper(self, registry: Registry, tmp_path: Path) -> None:
        make_repository(tmp_path / "r").close()
        certificates = tmp_path / "config" / "containers" / "certs.d" / registry.host
        certificates.parent.mkdir(parents=True)
        certificates.symlink_to(registry.certificates)
        helper = tmp_path / "docker-credential-test"
        answer = json.dumps({"ServerURL": "", "Username": USER, "Secret": PASSWORD})
        helper.write_text(f"#!/bin/sh\nread server\n[ \"$server\" = {registry.host} ] && echo '{answer}'\n")
        helper.chmod(helper.stat().st_mode | stat.S_IXUSR)
        (tmp_path / "auth.json").write_text(json.dumps({"credHelpers": {registry.host: "test"}}))
        environment = {
            "HOME": str(tmp_path),
            "PATH": f"{tmp_path}:/usr/bin:/bin",
            "XDG_CONFIG_HOME": str(tmp_path / "config"),
            "REGISTRY_AUTH_FILE": str(tmp_path / "auth.json"),
        }
        done = run_cfsctl(
            *("--repo", tmp_path / "r", "oci", "pull", f"docker://{registry.host}/private/image:t", "t"),
            *("--platform", "linux/amd64"),
            env=environment,
        )
        assert done.returncode == 0, done.stderr


def test_a_token_is_for_one_repository_and_asked_for_once(tmp_path: Path) -> None:
    certificate = make_certificate(tmp_path)
    with run_registry(tmp_path, certificate, "token") as registry:
        layout = Layout(tmp_path / "layout")
        layout.add_image("t", [*example_layers(), LARGE])
        registry.skopeo("copy", f"oci:{layout.path}:t", f"docker://{registry.host}/public/image:t")
        registry.tokens.clear()
        settings = RegistrySettings(certificate_directory=str(registry.certificates))
        pull_image(tmp_path / "r", f"docker://{registry.host}/public/image:t", settings)
        assert registry.tokens == [(None, "service=test%20registry&scope=repository%3Apublic%2Fimage%3Apull")]
