"""A joined thread is one that the kernel has ended too."""

from __future__ import annotations

import os
import threading

from cfsctl.workers.threads import join


def test_the_kernel_thread_has_ended() -> None:
    for _ in range(200):
        thread = threading.Thread(target=int)
        thread.start()
        join(thread, 60)
        assert not os.path.exists(f"/proc/self/task/{thread.native_id}")


def test_one_that_goes_on_is_left_alone() -> None:
    stopped = threading.Event()
    thread = threading.Thread(target=stopped.wait)
    thread.start()
    join(thread, 0)
    assert thread.is_alive()
    stopped.set()
    join(thread, 60)
    assert not thread.is_alive()
