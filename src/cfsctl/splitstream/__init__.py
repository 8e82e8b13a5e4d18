"""Splitstreams: a byte stream kept as compressed inline data and references to objects.

A splitstream is itself an object. It carries what the inline part says, in order; the names of the
objects whose content stands in between; and named references to other objects that it keeps alive.
"""

from cfsctl.splitstream.format import ContentType, SplitstreamError
from cfsctl.splitstream.reader import External, Inline, SplitstreamReader
from cfsctl.splitstream.writer import ObjectSink, ObjectWriter, SplitstreamWriter

__all__ = [
    "ContentType",
    "External",
    "Inline",
    "ObjectSink",
    "ObjectWriter",
    "SplitstreamError",
    "SplitstreamReader",
    "SplitstreamWriter",
]
