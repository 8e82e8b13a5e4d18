"""How a repository is configured."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from typing import Self

    from cfsctl.digest import Algorithm
    from cfsctl.erofs.format import FormatVersion
    from cfsctl.repository.metadata.config import Config


class Configuration(NamedTuple):
    """How a repository is configured.

    Attributes:
        algorithm: Hash of its objects.
        erofs_versions: Formats of its images, the default first.
    """

    algorithm: Algorithm
    erofs_versions: tuple[FormatVersion, ...]

    @classmethod
    def of(cls, config: Config) -> Self:
        """Return what a repository's meta.json says."""
        return cls(config.algorithm, tuple(config.image_formats))
