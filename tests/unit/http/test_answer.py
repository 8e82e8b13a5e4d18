"""Heads of answers, without a socket; what they lead to is tested over the wire."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from cfsctl.http.answer import Mark, check_rest, find_redirect, find_status, mark_of, parse_head
from cfsctl.http.errors import TransferError
from cfsctl.http.urls import check_url

LINES = [
    b"HTTP/1.1 100 Continue\r\n",
    b"Link: a\r\n",
    b"\r\n",
    b"HTTP/1.1 206 Partial\r\n",
    b'ETag:  "x" \r\n',
    b"Content-Range: bytes 5-9/10\r\n",
    b"\r\n",
    b"Trailer: t\r\n",
]  # fmt: skip


def test_the_last_head_counts_and_trailers_do_not() -> None:
    head = parse_head(LINES)
    assert head.status == find_status(LINES) == 206
    assert head.fields == (("etag", '"x"'), ("content-range", "bytes 5-9/10"))
    assert mark_of(head) == Mark(10, '"x"', None)


def test_nothing_has_no_status() -> None:
    assert parse_head([]).status == find_status([]) == 0


def test_marks_contradict_only_in_what_both_have() -> None:
    assert not Mark(1, None, "a").contradicts(Mark(1, "b", None))
    assert Mark(1, None, None).contradicts(Mark(2, None, None))
    assert Mark(1, "a", None).contradicts(Mark(1, "b", None))


FIELDS = st.sampled_from([b"Location", b"Content-Range", b"Content-Length", b"ETag", b"Retry-After"])
VALUES = st.one_of(
    st.binary(max_size=30).filter(lambda data: b"\n" not in data),
    st.text("htps:/[]@.%#?-0123456789*bytes ", max_size=30).map(str.encode),
)


@given(st.sampled_from([200, 206, 302, 416, 503]), st.lists(st.tuples(FIELDS, VALUES), max_size=4))
def test_any_head_is_understood_or_refused(status: int, fields: list[tuple[bytes, bytes]]) -> None:
    head = parse_head([b"HTTP/1.1 %d X\r\n" % status, *(b"%b: %b\r\n" % field for field in fields), b"\r\n"])
    url = "http://user:pw@host/x"
    try:
        target = find_redirect(head, url, url)
        if target is not None:
            check_url(target)
        check_rest(head, 5, Mark(10, None, None), url)
    except TransferError:
        pass
    else:
        assert head.status == 206
