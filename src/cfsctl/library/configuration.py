"""How a repository is configured."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from cfsctl.digest import Algorithm
    from cfsctl.erofs.format import FormatVersion


class Configuration(NamedTuple):
    """How a repository is configured.

    Attributes:
        algorithm: Hash of its objects.
        erofs_versions: Formats of its images, the default first.
    """

    algorithm: Algorithm
    erofs_versions: tuple[FormatVersion, ...]
