"""Many small objects from a local nginx, by each transport: objects a second and processor time.

    python -m benchmarks.bench_http [--count 20000] [--delay-ms 20] [--rounds 3] [transport ...]

The transports take turns, so that what else the machine does hits all of them; the median counts. With
a delay everything goes through `benchmarks.delay_proxy`, which is a process of its own.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import resource
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from cfsctl.digest import Checksum
from cfsctl.http import Transport, open_fetcher
from cfsctl.ostree.objects import ObjectKind, loose_path
from cfsctl.ostree.sources.remote import RemoteSource
from tests.support.nginx import find_free_port, run_nginx

if TYPE_CHECKING:
    from collections.abc import Iterator

_MEDIAN_BYTES = 1500
_SPREAD = 1.2
_LARGEST_BYTES = 200_000
"""Sizes as the compressed files of a root file system have them: log-normal, mean some 3 kB."""


class Result(NamedTuple):
    objects_per_s: float
    cpu_us: float


class _Sink:
    def __init__(self, _checksum: Checksum) -> None:
        self.size = 0

    def write(self, chunk: bytes, /) -> None:
        self.size += len(chunk)

    def finish(self) -> int:
        return self.size

    def abort(self) -> None:
        pass


def draw_size(chance: random.Random) -> int:
    """Return the size of a file in bytes."""
    return min(int(chance.lognormvariate(0, _SPREAD) * _MEDIAN_BYTES), _LARGEST_BYTES)


def make_objects(root: Path, count: int) -> list[Checksum]:
    chance = random.Random(1)
    checksums = []
    for _ in range(count):
        checksum = Checksum(chance.randbytes(32))
        path = root / loose_path(checksum, ObjectKind.FILE)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bytes(draw_size(chance)))
        checksums.append(checksum)
    return checksums


def measure(url: str, transport: Transport, checksums: list[Checksum]) -> Result:
    """Fetch all objects in a process of its own, so that nothing is warm that would not be in a pull."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            source = RemoteSource(url, open_fetcher(transport=transport))
            began_s, used_s = time.perf_counter(), time.process_time()
            count = sum(1 for _ in source.fetch_files(checksums, _Sink))
            wall_s, cpu_s = time.perf_counter() - began_s, time.process_time() - used_s
            peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
            os.write(writer, f"{count / wall_s} {cpu_s / count * 1e6} {peak_mb}".encode())
            status = 0
        finally:
            os._exit(status)
    os.close(writer)
    with open(reader) as pipe:
        text = pipe.read()
    if os.waitpid(pid, 0)[1] != 0:
        raise RuntimeError(f"{transport.value} failed")
    rate, cpu_us, peak = map(float, text.split())
    print(f"  {transport.value:9}{rate:9.0f} objects/s {cpu_us:7.1f} us CPU each, peak {peak:.0f} MB")
    return Result(rate, cpu_us)


@contextlib.contextmanager
def delayed(port: int, delay_ms: float) -> Iterator[int]:
    if not delay_ms:
        yield port
        return
    listen = find_free_port()
    command = [sys.executable, "-m", "benchmarks.delay_proxy", str(listen), str(port), str(delay_ms)]
    with subprocess.Popen(command) as proxy:
        try:
            while True:
                with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", listen)):
                    break
                time.sleep(0.05)
            yield listen
        finally:
            proxy.terminate()


def main() -> None:
    parser = argparse.ArgumentParser(description="Small objects from a local nginx.")
    parser.add_argument("--count", type=int, default=20_000)
    parser.add_argument("--delay-ms", type=float, default=0.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("transports", nargs="*", default=[transport.value for transport in Transport])
    options = parser.parse_args()
    transports = [Transport(name) for name in options.transports]
    with tempfile.TemporaryDirectory() as work:
        root = Path(work, "repo")
        root.mkdir()
        checksums = make_objects(root, options.count)
        random.Random(2).shuffle(checksums)
        results: dict[Transport, list[Result]] = {transport: [] for transport in transports}
        with run_nginx(root, Path(work)) as server:
            port = int(server.url.rpartition(":")[2])
            with delayed(port, options.delay_ms) as reached:
                for _ in range(options.rounds):
                    for transport in transports:
                        results[transport].append(
                            measure(f"http://127.0.0.1:{reached}", transport, checksums)
                        )
    for transport, found in results.items():
        rate = statistics.median(result.objects_per_s for result in found)
        cpu_us = statistics.median(result.cpu_us for result in found)
        print(f"{transport.value}: median {rate:.0f} objects/s, {cpu_us:.1f} us CPU each")


if __name__ == "__main__":
    main()
