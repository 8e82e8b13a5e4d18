"""All benchmarks against the peers that are there: one table with ratios, aims and verdicts.

    python -m benchmarks [--quick] [--peer CFSCTL] [--only NAME]... [--rounds N] [--scale F] [--nice N]
        [--work DIR] [--json FILE] [--tree DIR] [--delay-ms MS]

Peers are the cfsctl that is given, and `ostree`, `fsverity` and the C tools (`tools/c-composefs.sh
.c-composefs`) where they are installed. A full run takes some ten minutes on two quiet processors, and 16 GB
on the file system of --work; --quick takes two. `python -m benchmarks.page FILE` writes what --json wrote
into docs/explanation/performance.md. The exit status is 1 if something of ours could not be measured.
"""

from __future__ import annotations

import sys

from benchmarks.command_line import run
from benchmarks.groups import GROUPS

if __name__ == "__main__":
    sys.exit(run(GROUPS, __doc__))
