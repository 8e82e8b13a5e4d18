"""Splitstreams: a byte stream as compressed inline pieces and references to objects."""

from cfsctl.splitstream.format import ContentType, SplitstreamError
from cfsctl.splitstream.reader import External, Inline, SplitstreamReader
from cfsctl.splitstream.writer import ObjectSink, ObjectWriter, SplitstreamWriter, StoredObject

__all__ = [
    "ContentType",
    "External",
    "Inline",
    "ObjectSink",
    "ObjectWriter",
    "SplitstreamError",
    "SplitstreamReader",
    "SplitstreamWriter",
    "StoredObject",
]
