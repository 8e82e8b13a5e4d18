"""One attempt on a libcurl handle: the request, and a redirect in its response."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from cfsctl.http.errors import TransferError

if TYPE_CHECKING:
    from cfsctl.http.answer import Mark
    from cfsctl.http.fetcher import BodySink, Job


class Partial(NamedTuple):
    """The first part of a body that is too large to be fetched again for nothing.

    Attributes:
        sink: Has taken it.
        received: Its size in bytes.
        mark: What was said about the body, to tell whether the rest belongs to it.
    """

    sink: BodySink[Any]
    received: int
    mark: Mark


class Attempt(NamedTuple):
    """What is to be asked for.

    Attributes:
        job: What is wanted.
        number: Which attempt this is, from 1.
        partial: What there is of it.
        url: Where redirects have led; None is the job's own.
        redirects: How many they were.
        began_s: When the first request of the attempt was sent, if this is not it.
    """

    job: Job[Any]
    number: int = 1
    partial: Partial | None = None
    url: str | None = None
    redirects: int = 0
    began_s: float | None = None


def find_partial(job: Job[Any]) -> Partial | None:
    """Return what a job has of its body before the first request."""
    found: Partial | None = getattr(job, "partial", None)
    return found


class Redirected(TransferError):  # noqa: N818 - an answer, not an error
    """An answer that sends elsewhere.

    Attributes:
        target: URL to ask for.
    """

    def __init__(self, target: str, url: str) -> None:
        """Keep the target."""
        super().__init__("the server sends elsewhere", url)
        self.target = target
