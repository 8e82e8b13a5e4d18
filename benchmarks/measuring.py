"""Running a command as a user would, and seeing what it takes."""

from __future__ import annotations

import contextlib
import os
import statistics
import subprocess
import threading
import time
from pathlib import Path
from typing import NamedTuple

SAMPLE_PAUSE_S = 0.1


class Run(NamedTuple):
    """What one run took: seconds, and MB of all processes together, shared pages counted once."""

    wall_s: float
    cpu_s: float
    peak_mb: float


def memory_of_session(session: int) -> float:
    """Return the proportional set size of all processes of a session, in MB."""
    total = 0
    for name in os.listdir("/proc"):
        with contextlib.suppress(OSError, ValueError, IndexError):
            if name.isdigit() and os.getsid(int(name)) == session:
                text = Path(f"/proc/{name}/smaps_rollup").read_text()
                total += int(text.split("\nPss:")[1].split()[0])
    return total / 1024


def set_niceness(niceness: int) -> None:
    """Set the niceness of this process, and of its session, which Linux schedules as a group."""
    if niceness:
        os.setpriority(os.PRIO_PROCESS, 0, niceness)
        with contextlib.suppress(OSError):
            Path("/proc/self/autogroup").write_text(str(niceness))


def measure(command: str, niceness: int) -> Run:
    """Run a shell command and see what it takes."""
    start = time.perf_counter()
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    process = subprocess.Popen(
        ["/bin/sh", "-c", f"exec {command}"],
        stdout=subprocess.DEVNULL,
        env=environment,
        start_new_session=True,
        preexec_fn=lambda: set_niceness(niceness),  # noqa: PLW1509 - the sampler of the run before has ended
    )
    samples = [0.0]
    has_ended = threading.Event()

    def sample() -> None:
        while not has_ended.wait(SAMPLE_PAUSE_S):
            samples.append(memory_of_session(process.pid))

    sampler = threading.Thread(target=sample)
    sampler.start()
    _, status, usage = os.wait4(process.pid, 0)
    wall = time.perf_counter() - start
    has_ended.set()
    sampler.join()
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"failed with {process.returncode}: {command}")
    return Run(wall, usage.ru_utime + usage.ru_stime, max(samples))


def print_head() -> None:
    """Print what stands over the lines of `report`."""
    print(f"{'command':20} {'program':8} {'wall s':>8} {'from, to':>18} {'cpu s':>8} {'MB':>8} {'ratio':>8}")


def report(job: str, results: dict[str, list[Run]]) -> None:
    """Print the medians of each program, and the ratio of ours to each."""
    walls = {name: statistics.median(run.wall_s for run in runs) for name, runs in results.items()}
    for name, runs in results.items():
        spread = f"{min(run.wall_s for run in runs):.2f} to {max(run.wall_s for run in runs):.2f}"
        cpu = statistics.median(run.cpu_s for run in runs)
        peak = max(run.peak_mb for run in runs)
        ratio = walls["ours"] / walls[name]
        print(
            f"{job:20} {name:8} {walls[name]:8.2f} {spread:>18} {cpu:8.2f} {peak:8.0f} {ratio:8.2f}",
            flush=True,
        )
