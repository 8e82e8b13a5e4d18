"""The process of a FUSE server; run as a program by `cfsctl.repository.mounting.background`."""

from __future__ import annotations

import pickle
import sys

from cfsctl.repository.mounting.background import run

if __name__ == "__main__":
    with open(0, "rb", closefd=False) as stream:
        job = pickle.load(stream)  # noqa: S301 - from our own process
    sys.exit(run(job))
