"""Mistakes that users make: what the message must say, where the fault is, why, and what to do next.

Each case runs the program. A message scores one point each for what is wrong, where, why, and what to do
next; the words of a case stand for these, so a message that lost one of them fails.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from typing import TYPE_CHECKING, NamedTuple

import pytest

from cfsctl import gvariant
from tests.fakes.ostree_repository import FakeOstreeRepository
from tests.support.programs import CFSCTL, cfsctl, run_program
from tests.support.web import QuietHandler, serve_directory

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

KEY = "ed25519=inline:7S3yUp/5oCDK5+r5mfKD9E5tFaZ5Zi5mXGKsc4SFOhA="


class Case(NamedTuple):
    """A mistake.

    Attributes:
        arguments: Of cfsctl; URL and PLACE are filled in.
        status: Exit status.
        what: Words that say what is wrong.
        where: Words that say where; empty if the message does not.
        why: Words that say why; empty if the message does not.
        then: Words that say what to do next; empty if the message does not.
        shell: A shell line that runs the command, which is $@; as root in a namespace of its own.
        stdin: What standard input has.
    """

    arguments: str
    status: int
    what: str
    where: str
    why: str
    then: str
    shell: str = ""
    stdin: str = ""


SMALL = "mount -t tmpfs -o size=1m tmpfs small && $0 init --insecure small/store >&2 && exec $0 $@"
READ_ONLY = (
    "mount -t tmpfs tmpfs small && $0 init --insecure small/store >&2 && "
    "mount -o remount,ro small && exec $0 $@"
)
WITHOUT_RIGHTS = "exec setpriv --bounding-set=-all --inh-caps=-all $0 $@"
"""Root, but without the rights that root usually has."""

LOCKED = "exec flock --shared store $0 $@"
NO_HOME = "exec env -u HOME $0 $@"
CLOSED = "exec $0 $@ >&-"

CASES = {
    "no such repository": Case(
        "--repo nowhere images", 10, "opening repository", "nowhere", "No such file", "cfsctl init nowhere"
    ),
    "no repository named": Case(
        "images",
        10,
        "opening repository",
        "/sysroot/composefs|/.var/lib/composefs",
        "no repository was named",
        "--repo PATH or CFSCTL_REPO",
    ),
    "OSTree repository": Case(
        "--repo ostree images",
        10,
        "not a composefs repository",
        "ostree is",
        "is an OSTree repository",
        "ostree pull-local ostree REF",
    ),
    "OCI layout": Case(
        "--repo layout images",
        10,
        "not a composefs repository",
        "layout is",
        "is an OCI image layout",
        "oci pull oci:layout NAME",
    ),
    "another directory": Case(
        "--repo tree images", 10, "not a composefs repository", "tree is", "no meta.json", "cfsctl init tree"
    ),
    "file for a repository": Case(
        "--repo file images", 10, "opening repository", "file", "Not a directory", "--repo or CFSCTL_REPO"
    ),
    "repository of another user": Case(
        "--repo closed/store images",
        1,
        "opening repository",
        "closed/store",
        "Permission denied",
        "as the owner of the repository or as root",
        WITHOUT_RIGHTS,
    ),
    "no home": Case(
        "--user images", 10, "$HOME", "user mode", "must be set", "--repo or CFSCTL_REPO", NO_HOME
    ),
    "ref that is nearly one": Case(
        "--repo store ostree pull URL/summarised debian/12/ap",
        17,
        "'debian/12/ap'",
        "URL/summarised",
        "not found",
        "did you mean debian/12/app",
    ),
    "ref without summary": Case(
        "--repo store ostree pull URL/ostree debian/12/ap",
        17,
        "'debian/12/ap'",
        "URL/ostree",
        "not found",
        "check its name",
    ),
    "404 for everything": Case(
        "--repo store ostree pull URL/404/x debian/12/app",
        13,
        "no OSTree repository",
        "URL/404/x",
        "404",
        "check the URL",
    ),
    "403 for everything": Case(
        "--repo store ostree pull URL/403/x debian/12/app",
        13,
        "may not be read",
        "URL/403/x",
        "403",
        "--auth-file",
    ),
    "404 for a list": Case(
        "ostree list-refs URL/404/x", 13, "no OSTree repository", "URL/404/x", "404", "check the URL"
    ),
    "401 without credentials": Case(
        "--repo store ostree pull URL/401/x a", 13, "401", "URL/401/x", "asks for credentials", "--auth-file"
    ),
    "500": Case(
        "--repo store ostree pull URL/500/x a --retries=0",
        13,
        "500",
        "URL/500/x",
        "has a problem",
        "try again later",
    ),
    "web page": Case(
        "--repo store ostree pull URL/html/x a", 16, "summary", "URL/html/x", "web page", "check the URL"
    ),
    "server down": Case(
        "--repo store ostree pull http://127.0.0.1:9/ a --retries=0",
        13,
        "onnect",
        "http://127.0.0.1:9/",
        "refused|Could not connect",
        "that the server runs|check host and port",
    ),
    "no such host": Case(
        "--repo store ostree pull http://no.such.invalid/ a --retries=0",
        13,
        "esol|Name or service|nodename",
        "http://no.such.invalid/",
        "not",
        "host name",
    ),
    "TLS to a plain port": Case(
        "--repo store ostree pull TLS/ostree a --retries=0",
        13,
        "expected TLS",
        "TLS/ostree",
        "plain text",
        "use http://",
    ),
    "another scheme": Case(
        "--repo store ostree pull ftp://x/y a",
        2,
        "cannot be fetched",
        "ftp://x/y",
        "http:// or https://",
        "check the URL",
    ),
    "no URL": Case(
        "--repo store ostree pull debian/12/app x",
        17,
        "remote 'debian/12/app'",
        "remotes.d",
        "is not configured",
        "stands before the refs",
    ),
    "no scheme": Case(
        "--repo store ostree pull example.com/repo x",
        17,
        "remote 'example.com/repo'",
        "remotes.d",
        "is not configured",
        "https://example.com/repo",
    ),
    "port without scheme": Case(
        "--repo store ostree pull localhost:8080/repo x",
        17,
        "remote 'localhost:8080/repo'",
        "remotes.d",
        "is not configured",
        "http://localhost:8080/repo",
    ),
    "directory for a URL": Case(
        "--repo store ostree pull PLACE/ostree x",
        17,
        "remote",
        "PLACE/ostree",
        "it is a directory",
        "ostree pull-local PLACE/ostree",
    ),
    "URL for a directory": Case(
        "--repo store ostree pull-local URL/ostree x",
        2,
        "PATH",
        "URL/ostree",
        "expected a directory",
        "cfsctl ostree pull URL/ostree",
    ),
    "no OSTree repository": Case(
        "--repo store ostree pull-local empty x",
        10,
        "Cannot open ostree repo",
        "empty/config",
        "No such file",
        "has a file 'config'",
    ),
    "local ref that is nearly one": Case(
        "--repo store ostree pull-local ostree debian/12/ap",
        17,
        "'debian/12/ap'",
        "ostree",
        "not found",
        "did you mean debian/12/app",
    ),
    "no ref": Case(
        "--repo store ostree pull URL", 2, "at least one REF", "after the repository", "name", "list-refs"
    ),
    "command mistyped": Case(
        "--repo store imges", 2, "No such command", "'imges'", "", "did you mean images"
    ),
    "verb of ostree": Case("pull URL", 2, "No such command", "'pull'", "", "cfsctl ostree pull"),
    "verb of ostree, log": Case("log x", 2, "No such command", "'log'", "", "cfsctl ostree log"),
    "verb of ostree, inspect": Case(
        "inspect x", 2, "No such command", "'inspect'", "", "cfsctl ostree inspect"
    ),
    "group mistyped": Case("oc pull", 2, "No such command", "'oc'", "", "did you mean oci"),
    "verb of another tool": Case("rm web", 2, "No such command", "'rm'", "", "untag"),
    "option mistyped": Case("images --jsn", 2, "no such option", "--jsn", "", "did you mean --json"),
    "global option behind": Case(
        "images --repo store",
        2,
        "is a global option",
        "--repo",
        "stands before the command",
        "cfsctl --repo PATH images",
    ),
    "option before its command": Case(
        "--dry-run gc", 2, "is an option of gc", "--dry-run", "stands behind it", "cfsctl gc --dry-run"
    ),
    "nothing": Case("", 2, "Usage: cfsctl", "Repository:", "COMMAND", "cfsctl COMMAND --help"),
    "bad duration": Case(
        "--repo store gc --grace 1week",
        2,
        "'1week' is not a valid duration",
        "--grace",
        "expected a number and s, m, h, d or w",
        "cfsctl gc --help",
    ),
    "bad percentage": Case(
        "--repo store gc --max-delete x%",
        2,
        "'x%'",
        "--max-delete",
        "neither a number of objects nor a percentage",
        "cfsctl gc --help",
    ),
    "bad time limit": Case(
        "--timeout soon images",
        2,
        "'soon' is not a valid duration",
        "--timeout",
        "expected a number",
        "cfsctl --help",
    ),
    "root of gc": Case("--repo store gc -r nothere", 17, "root", "nothere", "not found", "cfsctl images"),
    "file for a tree": Case(
        "--repo store create-image file", 1, "file", "file", "Not a directory", "a directory is expected"
    ),
    "name that leaves": Case(
        "--repo store create-image tree ../../evil",
        16,
        "image name",
        "'../../evil'",
        "the component '..'",
        "a name such as web",
    ),
    "image mistyped": Case(
        "--repo store image-objects wbe", 17, "image", "wbe", "not found", "did you mean web"
    ),
    "no such image": Case(
        "--repo store image-objects nope", 17, "image", "nope", "not found", "cfsctl images"
    ),
    "mount point missing": Case(
        "--repo store mount web nowhere", 17, "mount point", "nowhere", "No such file", "create it with mkdir"
    ),
    "mount point is a file": Case(
        "--repo store mount web file", 1, "mount point", "file", "Not a directory", "must be a directory"
    ),
    "mount without the right to": Case(
        "--repo store mount web empty",
        1,
        "mounting",
        "EROFS",
        "Operation not permitted",
        "needs root",
        WITHOUT_RIGHTS,
    ),
    "tag mistyped": Case(
        "--repo store ostree inspect debian/12/ap",
        17,
        "'debian/12/ap'",
        "ref or valid commit",
        "is not a known",
        "did you mean debian/12/app",
    ),
    "no such commit": Case(
        "--repo store copy nothing other", 17, "'nothing'", "ref or valid commit", "is not a known", "images"
    ),
    "other hash": Case(
        "--repo store --hash sha256 images",
        1,
        "repository is configured for fsverity-sha512",
        "meta.json",
        "--hash sha256",
        "leave --hash out",
    ),
    "algorithm": Case(
        "init --insecure --algorithm sha256 new",
        2,
        "found 'sha256'",
        "--algorithm",
        "must start with 'fsverity-'",
        "fsverity-sha256-12",
    ),
    "other configuration": Case(
        "init --insecure --algorithm fsverity-sha256-12 store",
        1,
        "cannot re-initialize",
        "repository",
        "different configuration",
        "--ensure",
    ),
    "read-only": Case(
        "--repo small/store create-image tree",
        1,
        "not writable",
        "small/store",
        "read-only file system",
        "mount it for writing",
        READ_ONLY,
    ),
    "no space": Case(
        "--repo small/store create-image big",
        12,
        "No space left",
        "small/store",
        "bytes and",
        "cfsctl gc",
        SMALL,
    ),
    "no space for a pull": Case(
        "--repo small/store ostree pull-local large big",
        12,
        "No space left",
        "small/store",
        "bytes and",
        "--plan",
        SMALL,
    ),
    "locked": Case(
        "--repo store --lock-timeout 0 gc",
        11,
        "in use by another process",
        "store",
        "held by process",
        "--lock-timeout",
        LOCKED,
    ),
    "damaged": Case("--repo damaged fsck", 15, "integrity check failed", "", "", "fsck --repair"),
    "export to no repository": Case(
        "--repo store ostree export debian/12/app empty",
        10,
        "Cannot open ostree repo",
        "empty/config",
        "No such file",
        "ostree init",
    ),
    "import of nothing": Case(
        "--repo store import-image x",
        16,
        "Invalid image",
        "header",
        "found 0",
        "cfsctl create-image",
    ),
    "import of something else": Case(
        "--repo store import-image x",
        16,
        "Invalid image",
        "magic",
        "found|expected|bad",
        "cfsctl create-image",
        stdin="text " * 2000,
    ),
    "choice": Case(
        "--fsync=yes images",
        2,
        "'yes'",
        "--fsync",
        "is not one of 'per-object', 'barrier', 'none'",
        "cfsctl --help",
    ),
    "closed standard output": Case("--repo store images", 0, "", "", "", "", CLOSED),
    "unsigned": Case(
        f"--repo store ostree pull-local ostree debian/12/app --verify-key {KEY}",
        14,
        "signature",
        "commit",
        "found no|none",
        "",
    ),
    "header": Case(
        "--repo store ostree pull URL/ostree x --header foo",
        2,
        "--header",
        "--header",
        "expected NAME:VALUE",
        "such as",
    ),
    "file that is not in an image": Case(
        "--repo store dump-files web /nothing", 17, "/nothing", "image", "not found", "dump-files IMAGE /"
    ),
    "two places": Case(
        "--repo x --user images",
        2,
        "--repo, --user and --system",
        "--repo",
        "cannot be used together",
        "cfsctl --help",
    ),
}
"""The mistakes of many users, in groups: places, servers, words of the command line, names, the system."""

WORTH = 3.6
"""Mean number of the four things that the messages say at least."""


INTERNAL = re.compile(r"\[Errno|\b[A-Z]\w+(Error|Exception)\b|libcurl error|urllib3|requests\.")
"""Names that libraries have for errors, which are no concern of users."""


class Handler(QuietHandler):
    """Serves a directory, and one status for everything below some paths."""

    def do_GET(self) -> None:  # noqa: N802 - the name that http.server calls
        found = re.match(r"/(\d\d\d|html)/", self.path)
        if found is None:
            super().do_GET()
            return
        body = b"<!DOCTYPE html><html><body>Please log in</body></html>"
        self.send_response(200 if found[1] == "html" else int(found[1]))
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("mistakes")
    (place / "tree" / "usr").mkdir(parents=True)
    (place / "tree" / "usr" / "program").write_bytes(b"x" * 5000)
    (place / "big").mkdir()
    (place / "big" / "file").write_bytes(os.urandom(3_000_000))
    (place / "file").write_text("a file\n")
    for name in ("empty", "small", "closed", "layout"):
        (place / name).mkdir()
    (place / "layout" / "oci-layout").write_text("{}")
    (place / "layout" / "index.json").write_text("{}")
    for name in ("store", "other", "damaged", "closed/store"):
        cfsctl("init", "--insecure", place / name)
    (place / "closed").chmod(0o700)
    if os.geteuid() == 0:
        os.chown(place / "closed", 1, 1)
    cfsctl("--repo", place / "store", "create-image", place / "tree", "web")
    cfsctl("--repo", place / "damaged", "create-image", place / "tree", "web")
    for path in (place / "damaged" / "objects").glob("*/*"):
        path.chmod(0o600)
        path.write_bytes(b"damaged" + path.read_bytes()[7:])
    source = FakeOstreeRepository()
    commit = source.commit({"usr": {"a": os.urandom(3000)}}, "debian/12/app")
    source.write(place / "ostree")
    source.write(place / "summarised")
    refs: gvariant.Value = ([("debian/12/app", (100, bytes(commit), []))], [])
    (place / "summarised" / "summary").write_bytes(gvariant.encode("(a(s(taya{sv}))a{sv})", refs))
    large = FakeOstreeRepository()
    large.commit({"usr": {"a": os.urandom(3_000_000)}}, "big")
    large.write(place / "large")
    cfsctl("--repo", place / "store", "ostree", "pull-local", place / "ostree", "debian/12/app")
    return place


@pytest.fixture(scope="module")
def url(place: Path) -> Iterator[str]:
    with serve_directory(place, Handler) as url:
        yield url


def attempt(case: Case, place: Path, url: str, **variables: str) -> tuple[int, str]:
    """Make the mistake; return exit status and standard error, with the place and the URL taken out."""
    secure = url.replace("http:", "https:")
    arguments = [
        word.replace("URL", url).replace("TLS", secure).replace("PLACE", str(place))
        for word in case.arguments.split()
    ]
    command: list[str] = [str(CFSCTL), *arguments]
    if case.shell:
        if os.geteuid() or not all(map(shutil.which, ("unshare", "setpriv", "flock"))):
            pytest.skip("needs root, unshare, setpriv and flock")
        command = ["unshare", "--mount", "sh", "-ec", case.shell, *command]
    kept = {name: value for name, value in os.environ.items() if not name.startswith("CFSCTL_")}
    env = {**kept, "HOME": str(place), **variables}
    if case.shell:
        done = subprocess.run(
            command,
            cwd=place,
            input=case.stdin.encode(),
            capture_output=True,
            check=False,
            timeout=240,
            env=env,
        )
    else:
        done = run_program(*command, cwd=place, stdin=case.stdin.encode(), env=env)
    text = done.stderr.decode().replace(secure, "TLS").replace(url, "URL").replace(str(place), "PLACE")
    return done.returncode, text


@pytest.mark.parametrize("name", CASES)
def test_message(name: str, place: Path, url: str) -> None:
    case = CASES[name]
    status, text = attempt(case, place, url)
    check(case, status, text)


SERVERS = [name for name, case in CASES.items() if "URL" in case.arguments or "http" in case.arguments]


@pytest.mark.parametrize("name", [*SERVERS, "TLS to a plain port"])
def test_message_with_requests(name: str, place: Path, url: str, tmp_path: Path) -> None:
    (tmp_path / "pycurl.py").write_text("raise ImportError\n")
    status, text = attempt(CASES[name], place, url, PYTHONPATH=str(tmp_path))
    check(CASES[name], status, text)


def check(case: Case, status: int, text: str) -> None:
    assert status == case.status, text
    for words in case[2:6]:
        assert any(word in text for word in words.split("|")), f"expected {words!r} in:\n{text}"
    assert "Traceback" not in text
    assert "internal error" not in text
    assert not re.search(r"\[Errno|\b[A-Z]\w+(Error|Exception)\b|libcurl error|urllib3|requests\.", text), (
        text
    )
    if status and case.arguments:
        *_, last = [line for line in text.splitlines() if line.startswith("Error: ")]
        assert len(last) < 400


def test_messages_say_nearly_everything() -> None:
    messages = [case for case in CASES.values() if case.status]
    scores = [sum(map(bool, case[2:6])) for case in messages]
    assert len(messages) >= 60
    assert sum(scores) / len(scores) >= WORTH
