"""OSTree objects: what a repository holds, as bytes in and values out.

Every parser here is strict, regardless of the source of the bytes: normal form of the serialisation,
sizes of identifiers, names, modes and extended attributes are checked before a value is returned,
and `OstreeObjectError` is the only error. The parsers for what a pull meets by the ten thousand
(dirtree, dirmeta, header of a ``.filez``) are written by hand around the common case; whatever
that case does not cover goes through a slower reader, which either accepts it or says what is wrong.

Nothing here computes a checksum: that is for the caller, who knows the name of the object.

Formats: OSTree object types (``a(say)`` and its relatives are GVariant type strings; integers inside
objects are big-endian, framing offsets little-endian).

    dirmeta   (uuua(ayay))         uid gid mode xattrs
    dirtree   (a(say)a(sayay))     files (name, checksum), directories (name, dirtree, dirmeta)
    commit    (a{sv}aya(say)sstayay)
    .filez    u32 length, 4 zero bytes, (tuuuusa(ayay)) size uid gid mode rdev target xattrs, raw deflate
    file      what a file's checksum covers: the same without the size, then the plain content
"""

from cfsctl.ostree.objects._base import (
    CHECKSUM_SIZE,
    MAX_DETACHED_SIZE,
    MAX_FILE_HEADER_SIZE,
    MAX_METADATA_SIZE,
    MAX_NAME_SIZE,
    MAX_TARGET_SIZE,
    MAX_XATTR_NAME_SIZE,
    MAX_XATTR_VALUE_SIZE,
    ObjectKind,
    OstreeObjectError,
    loose_path,
)
from cfsctl.ostree.objects._commit import MAX_COMMIT_VALUES, Commit, format_commit, parse_commit
from cfsctl.ostree.objects._directory import (
    Dirmeta,
    Dirtree,
    format_dirmeta,
    format_dirtree,
    iter_dirtree,
    parse_dirmeta,
    parse_dirtree,
)
from cfsctl.ostree.objects._file import (
    SIZED_PREFIX,
    FileHeader,
    check_target,
    format_file_meta,
    format_regular_header,
    format_zlib_header,
    parse_header_length,
    parse_zlib_file_header,
)
from cfsctl.ostree.objects._names import Xattrs, check_name, format_xattrs, parse_xattrs
from cfsctl.ostree.objects._upstream import parse_stored_dirmeta, parse_stored_file_header

__all__ = [
    "CHECKSUM_SIZE",
    "MAX_COMMIT_VALUES",
    "MAX_DETACHED_SIZE",
    "MAX_FILE_HEADER_SIZE",
    "MAX_METADATA_SIZE",
    "MAX_NAME_SIZE",
    "MAX_TARGET_SIZE",
    "MAX_XATTR_NAME_SIZE",
    "MAX_XATTR_VALUE_SIZE",
    "SIZED_PREFIX",
    "Commit",
    "Dirmeta",
    "Dirtree",
    "FileHeader",
    "ObjectKind",
    "OstreeObjectError",
    "Xattrs",
    "check_name",
    "check_target",
    "format_commit",
    "format_dirmeta",
    "format_dirtree",
    "format_file_meta",
    "format_regular_header",
    "format_xattrs",
    "format_zlib_header",
    "iter_dirtree",
    "loose_path",
    "parse_commit",
    "parse_dirmeta",
    "parse_dirtree",
    "parse_header_length",
    "parse_stored_dirmeta",
    "parse_stored_file_header",
    "parse_xattrs",
    "parse_zlib_file_header",
]
