"""registries.conf, auth.json, credential helpers and certs.d."""

from __future__ import annotations

import base64
import json
import os
from typing import TYPE_CHECKING

import pytest

from cfsctl.http.auth import Credentials
from cfsctl.oci.registry import credentials
from cfsctl.oci.registry.certificates import Certificates, find_certificates
from cfsctl.oci.registry.configuration import (
    Endpoint,
    RegistryBlockedError,
    find_endpoints,
    parse_registries,
    read_registries,
)
from cfsctl.oci.registry.credentials import CredentialHelperError, find_credentials
from cfsctl.oci.registry.files import RegistryConfigError
from cfsctl.oci.registry.names import parse_image_name
from cfsctl.oci.registry.settings import (
    find_auth_files,
    find_certificate_directories,
    find_registries_files,
)

if TYPE_CHECKING:
    from pathlib import Path

CONFIGURATION = b"""
unqualified-search-registries = ["docker.io"]
[[registry]]
location = "plain.example"
insecure = true
[[registry]]
prefix = "moved.example/team"
location = "new.example/old/team"
[[registry]]
prefix = "moved.example/team/secret"
blocked = true
[[registry]]
prefix = "*.wild.example"
insecure = true
[[registry]]
prefix = "*.deep.wild.example"
location = "deep.example"
[[registry]]
prefix = "*.deep.wild.example/team/"
location = "team.example/x/"
[[registry]]
location = "own.deep.wild.example"
[[registry]]
location = "loop.example"
[[registry.mirror]]
location = "loop.example/"
[[registry]]
location = "there.example"
[[registry.mirror]]
location = "back.example"
[[registry.mirror]]
location = "back.example"
[[registry]]
prefix = "back.example"
location = "there.example"
[[registry]]
location = "first.example"
insecure = true
[[registry]]
location = "first.example"
[[registry]]
location = "docker.io"
[[registry.mirror]]
location = "mirror.example/hub"
insecure = true
[[registry.mirror]]
location = "by-digest.example"
pull-from-mirror = "digest-only"
[[registry.mirror]]
location = "by-tag.example"
pull-from-mirror = "tag-only"
"""
DIGEST = "sha256:" + "a" * 64


class TestRegistries:
    @pytest.mark.parametrize(
        ("name", "expected"),
        [
            ("other.example/a", [("other.example", "a", False)]),
            ("plain.example/a", [("plain.example", "a", True)]),
            ("plain.example:5000/a", [("plain.example:5000", "a", True)]),
            ("plain.example.org/a", [("plain.example.org", "a", False)]),
            ("moved.example/team/a", [("new.example", "old/team/a", False)]),
            ("moved.example/teams/a", [("moved.example", "teams/a", False)]),
            ("x.wild.example/a", [("x.wild.example", "a", True)]),
            ("x.wild.example:5000/a", [("x.wild.example:5000", "a", True)]),
            ("x.wild.example.wild.example/a", [("x.wild.example.wild.example", "a", True)]),
            ("x.org/y.wild.example/a", [("x.org", "y.wild.example/a", False)]),
            ("wild.example/a", [("wild.example", "a", False)]),
            ("a.deep.wild.example/a", [("deep.example", "a", False)]),
            ("a.deep.wild.example/team/a", [("team.example", "x/a", False)]),
            ("a.deep.wild.example/teams/a", [("deep.example", "teams/a", False)]),
            ("own.deep.wild.example/a", [("own.deep.wild.example", "a", False)]),
            ("loop.example/a", [("loop.example", "a", False)]),
            ("there.example/a", [("back.example", "a", False), ("there.example", "a", False)]),
            ("back.example/a", [("there.example", "a", False)]),
            ("first.example/a", [("first.example", "a", True)]),
            (
                "alpine",
                [
                    ("mirror.example", "hub/library/alpine", True),
                    ("by-tag.example", "library/alpine", False),
                    ("docker.io", "library/alpine", False),
                ],
            ),
            (
                f"alpine@{DIGEST}",
                [
                    ("mirror.example", "hub/library/alpine", True),
                    ("by-digest.example", "library/alpine", False),
                    ("docker.io", "library/alpine", False),
                ],
            ),
        ],
    )
    def test_endpoints(self, name: str, expected: list[tuple[str, str, bool]]) -> None:
        registries = parse_registries(CONFIGURATION, "x")
        found = find_endpoints(registries, parse_image_name(name))
        assert found == [Endpoint(*place) for place in expected]

    def test_a_blocked_one(self) -> None:
        with pytest.raises(RegistryBlockedError, match=r"blocks moved\.example/team/secret"):
            find_endpoints(
                parse_registries(CONFIGURATION, "x"), parse_image_name("moved.example/team/secret/a")
            )

    @pytest.mark.parametrize(
        ("text", "error"),
        [
            (b"[[registry]", "expected TOML"),
            (b"\xff", "expected TOML"),
            (b"[[registry]]\n", "prefix: expected a host"),
            (b"registry = 1", "registry: expected a list"),
            (b'[[registry]]\nlocation = "a"\ninsecure = "yes"', r"registry\[0\]\.insecure: expected a truth"),
            (b'[[registry]]\nlocation = "https://a"', r"registry\[0\]\.location: expected a host.*a URL"),
            (b"[registries]\nblock = 1", r"registries\.block: expected an object"),
            (b"[registries.block]\nregistries = 1", r"registries\.block\.registries: expected a list"),
            (b'[[registry]]\nlocation = "a"\n[registries.block]\nregistries = ["b"]', "one version"),
            (b'[[registry]]\nlocation = "a"\n[[registry.mirror]]\nlocation = "/"', "found nothing"),
            (b"a = " + b"[" * 100_000, "expected TOML"),
            (b"a." * 100_000 + b"a = 1", "expected TOML"),
            (b'[[registry]]\nlocation = "a"\n[[registry.mirror]]\n', r"mirror\[0\]\.location: expected"),
            (
                b'[[registry]]\nlocation = "a"\n[[registry.mirror]]\nlocation = "b"\npull-from-mirror = "no"',
                "pull-from-mirror: expected one of",
            ),
        ],
    )
    def test_not_valid(self, text: bytes, error: str) -> None:
        with pytest.raises(RegistryConfigError, match=error):
            parse_registries(text, "registries.conf")

    @pytest.mark.parametrize(
        "location",
        [
            "registry",
            "me@a.example",
            "a.example//b",
            "a.example/../b",
            "a.example/B",
            "a.example:x",
            "a b.example",
        ],
    )
    @pytest.mark.parametrize("kind", ["location", "mirror"])
    def test_what_leads_to_no_name_is_refused_when_it_is_used(self, location: str, kind: str) -> None:
        text = (
            f'location = "{location}"'
            if kind == "location"
            else f'[[registry.mirror]]\nlocation="{location}"'
        )
        registries = parse_registries(f'[[registry]]\nprefix = "p.example"\n{text}'.encode(), "x")
        with pytest.raises(RegistryConfigError, match=r"registries\.conf: prefix p\.example: it leads to"):
            find_endpoints(registries, parse_image_name("p.example/a"))
        assert find_endpoints(registries, parse_image_name("q.example/a"))

    def test_what_version_1_says_of_servers(self) -> None:
        text = b"""
            [registries.search]
            registries = ["docker.io"]
            [registries.insecure]
            registries = ["a.example", "both.example"]
            [registries.block]
            registries = ["b.example/", "both.example"]
        """
        registries = parse_registries(text, "x")
        assert find_endpoints(registries, parse_image_name("a.example/a")) == [
            Endpoint("a.example", "a", insecure=True)
        ]
        for name in ("b.example/a", "both.example/a"):
            with pytest.raises(RegistryBlockedError):
                find_endpoints(registries, parse_image_name(name))

    def test_a_thousand_entries_are_bounded_work(self) -> None:
        entries = [f'[[registry]]\nprefix="r{n}.example"\nlocation="r{n + 1}.example"\n' for n in range(1000)]
        registries = parse_registries("".join(entries).encode(), "x")
        assert find_endpoints(registries, parse_image_name("r0.example/a")) == [Endpoint("r1.example", "a")]

    def test_later_files_count_more(self, tmp_path: Path) -> None:
        for number, insecure in enumerate(("true", "false")):
            text = f'[[registry]]\nlocation = "a"\ninsecure = {insecure}'
            (tmp_path / f"{number}.conf").write_text(text)
        paths = [str(tmp_path / name) for name in ("missing.conf", "0.conf", "1.conf")]
        assert [registry.insecure for registry in read_registries(paths)] == [False]


def basic(user: str, password: str) -> dict[str, str]:
    return {"auth": base64.b64encode(f"{user}:{password}".encode()).decode()}


class TestCredentials:
    @pytest.fixture
    def authfile(self, tmp_path: Path) -> Path:
        path = tmp_path / "auth.json"
        auths = {
            "quay.io": basic("host", "h"),
            "quay.io/team": basic("team", "t:t"),
            "https://index.docker.io/v1/": basic("hub", "d"),
            "https://gitlab.example": basic("url", "u"),
            "token.example": {"identitytoken": "T"},
            "empty.example": {},
        }
        path.write_text(json.dumps({"auths": auths}))
        return path

    @pytest.mark.parametrize(
        ("repository", "expected"),
        [
            ("quay.io/other", ("host", "h")),
            ("quay.io/team", ("team", "t:t")),
            ("quay.io/team/image", ("team", "t:t")),
            ("quay.io/teams", ("host", "h")),
            ("quay.io:443/team", None),
            ("evil-quay.io/team", None),
            ("docker.io/library/alpine", ("hub", "d")),
            ("gitlab.example/a", ("url", "u")),
            ("token.example/a", ("", "", "T")),
            ("empty.example/a", None),
        ],
    )
    def test_the_longest_name_counts(
        self, authfile: Path, repository: str, expected: tuple[str, ...] | None
    ) -> None:
        found = find_credentials(["/nonexistent", str(authfile)], repository, "")
        assert found == (None if expected is None else Credentials(*expected))

    @pytest.mark.parametrize(
        ("document", "error"),
        [
            ("[]", "expected a JSON object"),
            ('{"auths": 1}', "auths: expected an object"),
            ('{"auths": {"a": {"auth": "?"}}}', r"auths\.a\.auth: expected base64"),
            ('{"auths": {"a": {"auth": "YQ=="}}}', r"auths\.a\.auth: expected base64 of USER:PASSWORD"),
        ],
    )
    def test_not_valid(self, tmp_path: Path, document: str, error: str) -> None:
        (tmp_path / "auth.json").write_text(document)
        with pytest.raises(RegistryConfigError, match=error):
            find_credentials([str(tmp_path / "auth.json")], "a/b", "")

    def test_no_pipe_is_waited_for(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "auth.json")
        with pytest.raises(OSError, match=r"auth\.json"):
            find_credentials([str(tmp_path / "auth.json")], "a/b", "")


class TestHelpers:
    def make(self, path: Path, script: str, document: dict[str, object]) -> list[str]:
        helper = path / "docker-credential-test"
        helper.write_text(f"#!/bin/sh\n{script}\n")
        helper.chmod(0o755)
        (path / "auth.json").write_text(json.dumps(document))
        return [str(path / "auth.json")]

    def find(self, path: Path, script: str, document: dict[str, object]) -> Credentials | None:
        files = self.make(path, script, document)
        return find_credentials(files, "a.example/b", f"{path}:/usr/bin:/bin")

    @pytest.mark.parametrize("document", [{"credHelpers": {"a.example": "test"}}, {"credsStore": "test"}])
    def test_answers(self, tmp_path: Path, document: dict[str, object]) -> None:
        script = 'read s; echo "{\\"Username\\": \\"$1\\", \\"Secret\\": \\"$s\\"}"'
        assert self.find(tmp_path, script, document) == Credentials("get", "a.example")

    def test_a_token(self, tmp_path: Path) -> None:
        script = """echo '{"Username": "<token>", "Secret": "T"}'"""
        assert self.find(tmp_path, script, {"credsStore": "test"}) == Credentials("", "", "T")

    def test_knows_nothing(self, tmp_path: Path) -> None:
        script = "echo credentials not found in native keychain; exit 1"
        assert self.find(tmp_path, script, {"credsStore": "test"}) is None

    @pytest.mark.parametrize(
        ("script", "error"),
        [
            ("exit 3", "exit status 3"),
            ("echo no", "expected JSON"),
            ("echo '{\"Username\": 1}'", "Username"),
            ("kill -9 $$", "signal 9"),
            ("echo locked >&2; exit 2", "exit status 2: locked"),
            ("exec head -c 3000000 /dev/zero", "expected at most 1048576 bytes"),
            ("exec head -c 3000000 /dev/zero >&2", "expected at most 1048576 bytes"),
        ],
    )
    def test_fails(self, tmp_path: Path, script: str, error: str) -> None:
        with pytest.raises(CredentialHelperError, match=error):
            self.find(tmp_path, script, {"credsStore": "test"})

    @pytest.mark.parametrize("script", ["exec sleep 1000", "exec >&- 2>&-; exec sleep 1000"])
    def test_hangs(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
        monkeypatch.setattr(credentials, "_HELPER_TIMEOUT_S", 0.1)
        with pytest.raises(CredentialHelperError, match=r"within 0\.1 seconds"):
            self.find(tmp_path, script, {"credsStore": "test"})

    def test_does_not_read_the_question(self, tmp_path: Path) -> None:
        script = """exec <&-; echo '{"Username": "u", "Secret": "s"}'"""
        assert self.find(tmp_path, script, {"credsStore": "test"}) == Credentials("u", "s")

    @pytest.mark.parametrize("name", ["../x", "missing", "", "a b"])
    def test_is_not_there(self, tmp_path: Path, name: str) -> None:
        (tmp_path / "auth.json").write_text(json.dumps({"credHelpers": {"a.example": name}}))
        with pytest.raises(CredentialHelperError, match=r"not found in PATH|without slashes"):
            find_credentials([str(tmp_path / "auth.json")], "a.example/b", str(tmp_path))


class TestPlaces:
    def test_of_credentials(self) -> None:
        assert find_auth_files({"REGISTRY_AUTH_FILE": "/x", "HOME": "/h"}) == ("/x",)
        assert find_auth_files({"HOME": "/h", "XDG_RUNTIME_DIR": "/r"}) == (
            "/r/containers/auth.json",
            "/h/.config/containers/auth.json",
            "/h/.docker/config.json",
        )
        assert find_auth_files({"DOCKER_CONFIG": "/d"})[-1] == "/d/config.json"

    def test_of_registries(self, tmp_path: Path) -> None:
        own = tmp_path / "containers" / "registries.conf"
        (tmp_path / "containers" / "registries.conf.d").mkdir(parents=True)
        own.touch()
        (tmp_path / "containers" / "registries.conf.d" / "a.conf").touch()
        (tmp_path / "containers" / "registries.conf.d" / "a.txt").touch()
        found = find_registries_files({"XDG_CONFIG_HOME": str(tmp_path)})
        assert (found[0], found[-1]) == (str(own), f"{own}.d/a.conf")
        chosen = {"CONTAINERS_REGISTRIES_CONF": "/x", "XDG_CONFIG_HOME": str(tmp_path)}
        assert find_registries_files(chosen) == ("/x", *found[1:])

    def test_drop_in_files_that_cannot_be_listed_are_no_empty_directory(self, tmp_path: Path) -> None:
        (tmp_path / "containers").mkdir()
        loop = tmp_path / "containers" / "registries.conf.d"
        loop.symlink_to(loop.name)
        with pytest.raises(OSError, match=r"registries\.conf\.d"):
            find_registries_files({"XDG_CONFIG_HOME": str(tmp_path)})

    def test_of_certificates(self, tmp_path: Path) -> None:
        directories = [f"{tmp_path}/missing", str(tmp_path)]
        place = tmp_path / "a.example:5000"
        place.mkdir()
        for name in ("ca.crt", "client.cert", "client.key", "README"):
            (place / name).touch()
        found = Certificates((f"{place}/ca.crt",), f"{place}/client.cert", f"{place}/client.key")
        assert find_certificates(directories, "a.example:5000") == found
        assert find_certificates(directories, "a.example") == Certificates()
        (place / "client.key").unlink()
        with pytest.raises(RegistryConfigError, match=r"missing client\.key"):
            find_certificates(directories, "a.example:5000")
        assert find_certificate_directories({"HOME": "/h"})[0] == "/h/.config/containers/certs.d"
