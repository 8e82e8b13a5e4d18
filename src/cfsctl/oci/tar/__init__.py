"""Tar archives as hostile input: one parser for both directions, without any I/O.

Written, an archive is cut into what a layer stream keeps inline (headers, padding, small files) and the
content of each larger regular file, which becomes an object. Read, the same parser takes the inline bytes
back and is told where an object stands. The bytes are never changed, so an archive that was cut is put
together again bit by bit.

Format: POSIX pax and ustar, GNU and V7 headers, with the choices of the original where they differ.
"""

from cfsctl.oci.tar.blocks import TarError
from cfsctl.oci.tar.entry import Entry, EntryType
from cfsctl.oci.tar.parser import INLINE_BYTES, Body, Event, Inline, TarParser

__all__ = ["INLINE_BYTES", "Body", "Entry", "EntryType", "Event", "Inline", "TarError", "TarParser"]
