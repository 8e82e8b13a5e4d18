"""Limits that all formats share, since any format may be converted to any other.

A tree is read from a directory, a dump, an image or a commit, and written as any of these. So that nothing is
stored that cannot be read back, readers and writers use the limits from here, and writers check them before
anything gets a name. Limits of a single format are in its `format` module and are never lower than these,
unless `docs/reference/limits.md` says so.

Imports nothing, so that every room can use it.
"""

from __future__ import annotations

from typing import Final

# The tree

MAX_DEPTH: Final = 2047
"""Directories nested below the root; readers of the original stop there too."""

MAX_NAME_BYTES: Final = 255
"""Bytes of a name; the kernel's limit."""

MAX_PATH_BYTES: Final = MAX_DEPTH * (MAX_NAME_BYTES + 1) + MAX_NAME_BYTES + 1
"""Bytes of a path: the longest that names and depth allow."""

MAX_ENTRIES: Final = 10_000_000
"""Entries of a tree, each occurrence of a shared subtree counted."""

MAX_TARGET_BYTES: Final = 4095
"""Bytes of the target of a symbolic link: PATH_MAX without the NUL."""

MAX_FILE_BYTES: Final = 1 << 53
"""Bytes of a file: 1024 chunks of 2**43, which is what the inode of an image can say."""

MAX_XATTR_NAME_BYTES: Final = 255
"""Bytes of the name of an extended attribute; the kernel's limit."""

MAX_XATTR_VALUE_BYTES: Final = 65535
"""Bytes of the value of an extended attribute: one less than the kernel takes, since an image has two bytes
for the length."""

# Files of ours

MAX_IMAGE_BYTES: Final = 1 << 30
"""Bytes of an image; the original reads no larger one."""

MAX_COMMIT_STREAM_BYTES: Final = 1 << 30
"""Bytes of a commit stream without large contents, which a reader holds in memory."""

MAX_METADATA_TOTAL_BYTES: Final = 192 << 20
"""Bytes of the metadata objects of one commit together, which are held in memory: two million entries."""

MAX_REF_NAME_BYTES: Final = 4096
"""Bytes of the name of a ref in another repository: a path, so no longer than PATH_MAX."""
