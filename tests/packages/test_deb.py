"""The Debian package: built as Debian builds, free of what lintian calls errors, installed, used and gone."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

import cfsctl
from tests.support.programs import require

ROOT = Path(__file__).parents[2]
NOT_HERE = 77


def test_version_is_that_of_the_sources() -> None:
    first = (ROOT / "debian" / "changelog").read_text().splitlines()[0]
    found = re.match(r"cfsctl \((.*?)\) ", first)
    assert found is not None
    assert found[1] == cfsctl.__version__


@pytest.mark.packages
def test_package_is_built_used_and_purged() -> None:
    for program, package in (("dpkg-buildpackage", "dpkg-dev"), ("dh", "debhelper"), ("lintian", "lintian")):
        require(program, package)
    require("dh_python3", "dh-python")
    subprocess.run(["make", "-s", "deb"], cwd=ROOT, check=True, timeout=600)
    (built,) = (ROOT / "dist").glob("cfsctl_*.deb")
    if os.geteuid() or shutil.which("unshare") is None or shutil.which("debootstrap") is None:
        pytest.skip("installing it needs root, unshare and debootstrap")
    script = ROOT / "tests" / "packages" / "deb_round.sh"
    done = subprocess.run(
        ["unshare", "--mount", "--propagation", "private", "sh", script, built, ROOT],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=1200,
    )
    if done.returncode == NOT_HERE:
        pytest.skip(f"no system to install into: {done.stdout}")
    assert done.returncode == 0, done.stdout
    assert done.stdout.endswith("cfsctl came and went\n")
