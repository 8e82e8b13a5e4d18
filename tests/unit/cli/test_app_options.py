"""Options before the command, the environment in their place, and how errors are told."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from cfsctl.cli.app import cfsctl, main
from cfsctl.cli.errors import STYLE, report_error, run_guarded
from cfsctl.repository.objects.reader import StoredObjectMissingError
from tests.support import schemas

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    for option in cfsctl.params:
        for name in option.opts:
            monkeypatch.delenv(f"CFSCTL_{name.lstrip('-').upper().replace('-', '_')}", raising=False)
    monkeypatch.chdir(tmp_path)
    yield
    STYLE.reset()


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    def run(*arguments: str) -> tuple[int, str, str]:
        capsys.readouterr()
        status = run_guarded(lambda: main(arguments))
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return run


@pytest.fixture
def repository(run: Run) -> str:
    assert run("init", "--insecure", "repo")[0] == 0
    return "repo"


def error_of(text: str) -> dict[str, Any]:
    document = json.loads(text)
    schemas.check(document, "error")
    assert isinstance(document, dict)
    return document


USAGE = {
    "empty path": (["--repo=", "images"], "--repo: expected a path, found nothing"),
    "two paths": (["--repo=a", "--repo=b", "images"], "'--repo': given more than once"),
    "the same path twice": (["--repo=a", "--repo=a", "images"], "given more than once"),
    "path and user": (["--repo=a", "--user", "images"], "cannot be used together"),
    "user and system": (["--user", "--system", "images"], "cannot be used together"),
    "quiet and verbose": (["-q", "-v", "images"], "cannot be used together"),
    "unknown command": (["imags"], "did you mean images"),
    "unknown option": (["--reop=x", "images"], "did you mean --repo"),
    "unknown option of a command": (["gc", "--dry-rnu"], "did you mean --dry-run"),
    "nothing alike": (["xyzzy"], "try 'cfsctl --help'"),
}


@pytest.mark.parametrize("name", USAGE)
def test_wrong_usage(run: Run, name: str) -> None:
    arguments, text = USAGE[name]
    status, out, err = run(*arguments)
    assert (status, out) == (2, "")
    assert text in err
    status, out, err = run("--json", *arguments)
    assert (status, out) == (2, "")
    document = error_of(err)
    assert (document["kind"], document["exit_code"]) == ("usage", 2)
    assert text in f"{document['message']} {document['hint']}"


@pytest.mark.parametrize("arguments", [["--json", "images"], ["images", "--json"]])
def test_errors_are_objects_with_json(run: Run, arguments: list[str]) -> None:
    status, out, err = run("--repo", "nowhere", *arguments)
    assert (status, out) == (10, "")
    document = error_of(err)
    assert document["kind"] == "no-repository"
    assert "nowhere" in document["message"]
    assert document["hint"]


def test_style_of_one_run_does_not_reach_the_next(run: Run) -> None:
    run("--json", "--debug", "--repo=nowhere", "images")
    assert run("--repo=nowhere", "images")[2].startswith("Error: opening repository nowhere: ")


def test_errors_of_the_system_name_the_file(run: Run, repository: str) -> None:
    status, _, err = run("--repo", repository, "--json", "create-image", "nothing")
    assert (status, error_of(err)["path"]) == (17, "nothing")


def test_missing_objects_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    from cfsctl.digest import ObjectID

    STYLE.as_json = True
    assert report_error(StoredObjectMissingError(ObjectID(b"\xab" * 32))) == 15
    assert error_of(capsys.readouterr().err)["object"] == "sha256:" + "ab" * 32


def test_global_json_is_that_of_the_command(run: Run, repository: str) -> None:
    words = ["--repo", repository, "ostree", "images"]
    assert run("--json", *words) == run(*words, "--json")
    assert run("--json", *words)[1] == '{\n  "schema_version": 1,\n  "images": []\n}\n'


def test_json_behind_a_command_of_the_original_is_that_of_the_original(run: Run, repository: str) -> None:
    assert run("--repo", repository, "images", "--json")[1] == '{\n  "images": []\n}\n'


def test_faults_of_the_program_are_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    def broken() -> int:
        raise KeyError("wrong")

    assert run_guarded(broken) == 1
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(":")[0] for line in lines] == ["Error", "Hint"]
    assert "internal error: KeyError" in lines[0]
    STYLE.with_traceback = True
    assert run_guarded(broken) == 1
    assert "Traceback" in capsys.readouterr().err


def test_debugging_shows_where_and_keeps_the_status(run: Run) -> None:
    status, _, err = run("--debug", "--repo=nowhere", "images")
    assert status == 10
    assert err.startswith("Traceback")
    assert err.splitlines()[-2].startswith("Error: opening repository nowhere")


def test_environment_names_the_repository(run: Run, repository: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CFSCTL_REPO", repository)
    assert run("images")[0] == 0
    assert run("--repo=nowhere", "images")[0] == 10  # the command line counts more
    monkeypatch.setenv("HOME", "/nowhere")
    assert "/nowhere/.var" in run("--user", "images")[2]
    monkeypatch.setenv("CFSCTL_USER", "1")
    assert "CFSCTL_REPO, CFSCTL_USER and CFSCTL_SYSTEM cannot be used together" in run("images")[2]
    assert run("--repo", repository, "images")[0] == 0
    monkeypatch.setenv("CFSCTL_USER", "0")
    assert run("images")[0] == 0
    monkeypatch.setenv("CFSCTL_USER", "perhaps")
    assert run("images")[0] == 2
    monkeypatch.delenv("CFSCTL_USER")
    monkeypatch.setenv("CFSCTL_REPO", "")
    monkeypatch.setenv("CFSCTL_SYSTEM", "yes")
    assert "/sysroot/composefs" in run("images")[2]


ENVIRONMENT = {
    "CFSCTL_HASH": ("sha256", 1, "sha256"),
    "CFSCTL_EROFS_VERSION": ("3", 2, "'3' is not one of"),
    "CFSCTL_REQUIRE_VERITY": ("1", 1, "verity"),
    "CFSCTL_NO_REPO": ("1", 1, "--no-repo"),
    "CFSCTL_JSON": ("1", 0, ""),
    "CFSCTL_QUIET": ("1", 0, ""),
    "CFSCTL_VERBOSE": ("1", 0, "repo: sha512, images of format 1, does without fs-verity"),
    "CFSCTL_LOG_LEVEL": ("loud", 2, "'loud' is not one of"),
    "CFSCTL_LOG_TIME": ("1", 0, ""),
    "CFSCTL_INSECURE": ("1", 0, ""),
    "CFSCTL_NO_UPGRADE": ("1", 0, ""),
    "CFSCTL_REPO": ("repo", 0, ""),
    "CFSCTL_USER": ("x", 0, ""),
    "CFSCTL_SYSTEM": ("x", 0, ""),
    "CFSCTL_CONFIG": ("/nowhere.toml", 17, "/nowhere.toml: No such file"),
    "CFSCTL_DEBUG": ("1", 0, ""),
    "CFSCTL_LOCK_TIMEOUT": ("soon", 2, "soon"),
    "CFSCTL_TIMEOUT": ("never", 2, "'never' is not a valid duration"),
    "CFSCTL_PROGRESS": ("bar", 2, "'bar' is not one of"),
    "CFSCTL_PROGRESS_FD": ("999999", 2, "file descriptor 999999 is not open for writing"),
    "CFSCTL_FSYNC": ("later", 2, "'later' is not one of"),
}


@pytest.mark.parametrize("variable", ENVIRONMENT)
def test_each_option_in_the_environment(
    run: Run, repository: str, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    value, expected, text = ENVIRONMENT[variable]
    monkeypatch.setenv(variable, value)
    status, _, err = run("--repo", repository, "images")
    assert status == expected
    assert text in err


def test_no_global_option_is_without_its_variable() -> None:
    options = {name for option in cfsctl.params for name in option.opts if name.startswith("--")}
    variables = {f"CFSCTL_{name[2:].upper().replace('-', '_')}" for name in options}
    assert variables - {"CFSCTL_VERSION"} == set(ENVIRONMENT)


def test_quiet_leaves_errors_alone(run: Run, repository: str) -> None:
    assert run("-q", "--repo=nowhere", "compute-id", "--no-propagate-usr-to-root", ".")[2] == ""
    assert "continuing with" in run("--repo=nowhere", "compute-id", "--no-propagate-usr-to-root", ".")[2]
    assert run("-q", "--repo", repository, "mount", "nothing", ".")[2].startswith("Error: ")
