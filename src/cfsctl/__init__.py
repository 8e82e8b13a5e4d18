"""Manage composefs repositories.

A composefs repository keeps file content once, as fs-verity objects named by their digest, and
describes each file system tree by a small EROFS image that refers to those objects.

    import cfsctl

    with cfsctl.Repository.open("/var/lib/images") as repository:
        result = repository.pull("https://example.com/repo", "some/ref")
        repository.mount(result.image_id, "/mnt")

The names below are the library's interface (docs/reference/library.md); the modules below this package are
not. Each name is imported when it is first used, so that importing the package costs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from cfsctl.started import STARTED_NS as _STARTED_NS  # noqa: F401 - before anything else is loaded

__version__ = "0.9.4"

if TYPE_CHECKING:  # what type checkers see; "as" makes a name public for them
    from cfsctl.boot.choice import BootRules as BootRules
    from cfsctl.boot.deployments import Deployment as Deployment
    from cfsctl.boot.deployments import RemovedDeployment as RemovedDeployment
    from cfsctl.boot.prepare import Prepared as Prepared
    from cfsctl.boot.prepare import PrepareOptions as PrepareOptions
    from cfsctl.digest import Algorithm as Algorithm
    from cfsctl.digest import DigestFormatError as DigestFormatError
    from cfsctl.erofs.format import FormatVersion as FormatVersion
    from cfsctl.errors import CfsError as CfsError
    from cfsctl.errors import ExitCode as ExitCode
    from cfsctl.errors import FetchError as FetchError
    from cfsctl.errors import FormatError as FormatError
    from cfsctl.errors import IntegrityError as IntegrityError
    from cfsctl.errors import ObjectMissingError as ObjectMissingError
    from cfsctl.errors import ReceivedDigestError as ReceivedDigestError
    from cfsctl.errors import RefNotFoundError as RefNotFoundError
    from cfsctl.errors import RepositoryError as RepositoryError
    from cfsctl.http.fetcher import Options as _Options
    from cfsctl.inspection.contents.extract import ExtractCounts as ExtractCounts
    from cfsctl.inspection.contents.place import Place as _Place
    from cfsctl.inspection.diff import Added as Added
    from cfsctl.inspection.diff import Attribute as Attribute
    from cfsctl.inspection.diff import Change as Change
    from cfsctl.inspection.diff import Changed as Changed
    from cfsctl.inspection.diff import Difference as Difference
    from cfsctl.inspection.diff import Removed as Removed
    from cfsctl.inspection.storage.model import BlockKind as BlockKind
    from cfsctl.inspection.storage.model import ChangedArea as ChangedArea
    from cfsctl.inspection.storage.model import ChangedEntry as ChangedEntry
    from cfsctl.inspection.storage.model import ChangeKind as ChangeKind
    from cfsctl.inspection.storage.model import ChangeTally as ChangeTally
    from cfsctl.inspection.storage.model import DiffReport as DiffReport
    from cfsctl.inspection.storage.model import GarbageGroup as GarbageGroup
    from cfsctl.inspection.storage.model import KeptReason as KeptReason
    from cfsctl.inspection.storage.model import LargeObject as LargeObject
    from cfsctl.inspection.storage.model import PackageChange as PackageChange
    from cfsctl.inspection.storage.model import RefHistory as RefHistory
    from cfsctl.inspection.storage.model import ReportedVersion as ReportedVersion
    from cfsctl.inspection.storage.model import ReportLimits as ReportLimits
    from cfsctl.inspection.storage.model import SpaceBlock as SpaceBlock
    from cfsctl.inspection.storage.model import StoreReport as StoreReport
    from cfsctl.inspection.storage.model import TreeChanges as TreeChanges
    from cfsctl.kinds.fetching import FetchedStream as FetchedStream
    from cfsctl.kinds.kind import NamedCopy as NamedCopy
    from cfsctl.library.comparison import DigestExplanation as DigestExplanation
    from cfsctl.library.comparison import ReadingOptions as ReadingOptions
    from cfsctl.library.comparison import diff as diff
    from cfsctl.library.comparison import explain_digest as explain_digest
    from cfsctl.library.contents import TreeReading as TreeReading
    from cfsctl.library.contents import extract as extract
    from cfsctl.library.contents import iter_file as iter_file
    from cfsctl.library.contents import iter_tar as iter_tar
    from cfsctl.library.contents import list_tree as list_tree
    from cfsctl.library.doctor import examine_machine as examine_machine
    from cfsctl.library.events import Cancellation as Cancellation
    from cfsctl.library.events import CancelledError as CancelledError
    from cfsctl.library.events import Progress as Progress
    from cfsctl.library.findings import Finding as Finding
    from cfsctl.library.findings import FindingState as FindingState
    from cfsctl.library.ids import Checksum as Checksum
    from cfsctl.library.ids import ObjectID as ObjectID
    from cfsctl.library.locations import SYSTEM_REPOSITORY as SYSTEM_REPOSITORY
    from cfsctl.library.locations import find_user_repository as find_user_repository
    from cfsctl.library.mounts import unmount as unmount
    from cfsctl.library.oci.images import OciImages as OciImages
    from cfsctl.library.oci.options import OciBuildOptions as OciBuildOptions
    from cfsctl.library.oci.options import OciPullOptions as OciPullOptions
    from cfsctl.library.oci.options import OciTreeOptions as OciTreeOptions
    from cfsctl.library.oci.options import RegistryOptions as RegistryOptions
    from cfsctl.library.oci.results import LinkedImage as LinkedImage
    from cfsctl.library.oci.results import ListedOciImage as ListedOciImage
    from cfsctl.library.oci.results import OciFsckReport as OciFsckReport
    from cfsctl.library.oci.results import OciIndexEntry as OciIndexEntry
    from cfsctl.library.oci.results import OciIndexInspection as OciIndexInspection
    from cfsctl.library.oci.results import OciInspection as OciInspection
    from cfsctl.library.oci.results import OciLayer as OciLayer
    from cfsctl.library.oci.results import OciLinkedManifest as OciLinkedManifest
    from cfsctl.library.oci.results import OciPullOutcome as OciPullOutcome
    from cfsctl.library.patience import Patience as Patience
    from cfsctl.library.pruning import PruneDecision as PruneDecision
    from cfsctl.library.pruning import PruneOptions as PruneOptions
    from cfsctl.library.pruning import PruneResult as PruneResult
    from cfsctl.library.remotes import NewRemote as NewRemote
    from cfsctl.library.remotes import add_remote as add_remote
    from cfsctl.library.remotes import list_remotes as list_remotes
    from cfsctl.library.remotes import remove_remote as remove_remote
    from cfsctl.library.reports import draw_report as draw_report
    from cfsctl.library.reports import report_diff as report_diff
    from cfsctl.library.repository import Repository as Repository
    from cfsctl.library.results import CommitInfo as CommitInfo
    from cfsctl.library.results import KeptTarget as KeptTarget
    from cfsctl.library.results import ListedCommit as ListedCommit
    from cfsctl.library.results import ListedImage as ListedImage
    from cfsctl.library.results import RefChange as RefChange
    from cfsctl.library.results import RefSize as RefSize
    from cfsctl.library.results import RemoteRef as RemoteRef
    from cfsctl.library.setup import InitStatus as InitStatus
    from cfsctl.library.setup import init_repository as init_repository
    from cfsctl.library.sources import SourceOptions as SourceOptions
    from cfsctl.library.sources import find_remote as find_remote
    from cfsctl.library.sources import list_refs as list_refs
    from cfsctl.library.trees import ScanOptions as ScanOptions
    from cfsctl.library.trees import compute_id as compute_id
    from cfsctl.library.trees import create_dumpfile as create_dumpfile
    from cfsctl.library.trees import format_kernel_argument as format_kernel_argument
    from cfsctl.mount import WritableLayer as WritableLayer
    from cfsctl.oci.boot_images import BootMatch as BootMatch
    from cfsctl.oci.build import BuildResult as _OciBuildResult
    from cfsctl.oci.check import OciReport as OciReport
    from cfsctl.oci.delta.make import DeltaResult as _OciDeltaResult
    from cfsctl.oci.digest import OciDigest as OciDigest
    from cfsctl.oci.digest import OciDigestError as OciDigestError
    from cfsctl.oci.finalize import FinalizedImage as FinalizedImage
    from cfsctl.oci.layer_transfer import ReceivedLayer as ReceivedLayer
    from cfsctl.oci.pull import PullResult as _OciPullResult
    from cfsctl.oci.pull_index import IndexPullResult as _OciIndexPullResult
    from cfsctl.oci.pull_plan import PullPlan as _OciPullPlan
    from cfsctl.oci.push import DigestChangedError as DigestChangedError
    from cfsctl.oci.push import PushResult as _OciPushResult
    from cfsctl.oci.store.layer_writer import ImportCounts as ImportCounts
    from cfsctl.oci.store.layers import LayerFacts as LayerFacts
    from cfsctl.oci.store.listing import ImageSummary as _OciImageSummary
    from cfsctl.ostree.exchange.commit import CommitResult as CommitResult
    from cfsctl.ostree.pull.dry_run import PullEstimate as PullEstimate
    from cfsctl.ostree.pull.options import PullOptions as PullOptions
    from cfsctl.ostree.pull.options import PullResult as PullResult
    from cfsctl.ostree.store.binding import PolicyError as PolicyError
    from cfsctl.ostree.store.history import LogEntry as LogEntry
    from cfsctl.ostree.store.refs import CommitNotFoundError as CommitNotFoundError
    from cfsctl.ostree.tree.composefs_digest import DigestCheck as DigestCheck
    from cfsctl.ostree.tree.xattr_names import XattrNames as XattrNames
    from cfsctl.ostree.trust.from_keys import KeySpellingError as KeySpellingError
    from cfsctl.ostree.trust.from_keys import trust_keys as trust_keys
    from cfsctl.ostree.trust.policy import TrustPolicy as TrustPolicy
    from cfsctl.ostree.trust.remotes import Remote as Remote
    from cfsctl.ostree.trust.verdict import ValidSignature as ValidSignature
    from cfsctl.progress import Advanced as Advanced
    from cfsctl.progress import Done as Done
    from cfsctl.progress import Event as Event
    from cfsctl.progress import Message as Message
    from cfsctl.progress import Skipped as Skipped
    from cfsctl.progress import Started as Started
    from cfsctl.progress import Unit as Unit
    from cfsctl.progress import Waiting as Waiting
    from cfsctl.repository import Durability as Durability
    from cfsctl.repository import InvalidNameError as InvalidNameError
    from cfsctl.repository import LockedError as LockedError
    from cfsctl.repository import NotARepositoryError as NotARepositoryError
    from cfsctl.repository import Ref as Ref
    from cfsctl.repository.check.report import FsckReport as FsckReport
    from cfsctl.repository.check.report import Tally as Tally
    from cfsctl.repository.copying import CopyCounts as CopyCounts
    from cfsctl.repository.gc.mount_finder import LiveMount as LiveMount
    from cfsctl.repository.gc.mounted import MountedImage as MountedImage
    from cfsctl.repository.gc.mounted import MountList as MountList
    from cfsctl.repository.gc.results import DeleteLimit as DeleteLimit
    from cfsctl.repository.gc.results import GcResult as GcResult
    from cfsctl.repository.gc.results import Why as Why
    from cfsctl.repository.gc.stats import RefStats as RefStats
    from cfsctl.repository.gc.stats import Stats as Stats
    from cfsctl.repository.history.changes import NothingKeptError as NothingKeptError
    from cfsctl.repository.history.retention import RetentionRules as RetentionRules
    from cfsctl.repository.mounting.choice import FuseMode as FuseMode
    from cfsctl.repository.mounting.choice import FuseOptions as FuseOptions
    from cfsctl.repository.names.links import RefExistsError as RefExistsError
    from cfsctl.repository.names.short_ids import AmbiguousIdError as AmbiguousIdError
    from cfsctl.repository.repair.repair import RepairReport as RepairReport
    from cfsctl.tree.transform import XattrFilter as XattrFilter

    ConnectionOptions: TypeAlias = _Options
    TreePlace: TypeAlias = _Place
    OciImageSummary: TypeAlias = _OciImageSummary
    OciDeltaResult: TypeAlias = _OciDeltaResult
    OciPushResult: TypeAlias = _OciPushResult
    OciIndexPullResult: TypeAlias = _OciIndexPullResult
    OciPullPlan: TypeAlias = _OciPullPlan
    OciPullResult: TypeAlias = _OciPullResult
    OciBuildResult: TypeAlias = _OciBuildResult
    __all__: list[str]

else:
    _MODULES = {
        "boot.choice": ("BootRules",),
        "boot.deployments": ("Deployment", "RemovedDeployment"),
        "boot.prepare": ("PrepareOptions", "Prepared"),
        "digest": ("Algorithm", "DigestFormatError"),
        "erofs.format": ("FormatVersion",),
        "errors": (
            "CfsError",
            "ExitCode",
            "FetchError",
            "FormatError",
            "IntegrityError",
            "ObjectMissingError",
            "ReceivedDigestError",
            "RefNotFoundError",
            "RepositoryError",
        ),
        "http.fetcher": ("ConnectionOptions",),
        "inspection.contents.extract": ("ExtractCounts",),
        "inspection.contents.place": ("TreePlace",),
        "inspection.diff": ("Added", "Attribute", "Change", "Changed", "Difference", "Removed"),
        "inspection.storage.model": (
            "BlockKind",
            "ChangeKind",
            "ChangeTally",
            "ChangedArea",
            "ChangedEntry",
            "DiffReport",
            "GarbageGroup",
            "KeptReason",
            "LargeObject",
            "PackageChange",
            "RefHistory",
            "ReportLimits",
            "ReportedVersion",
            "SpaceBlock",
            "StoreReport",
            "TreeChanges",
        ),
        "kinds.kind": ("NamedCopy",),
        "kinds.fetching": ("FetchedStream",),
        "library.comparison": ("DigestExplanation", "ReadingOptions", "diff", "explain_digest"),
        "library.contents": ("TreeReading", "extract", "iter_file", "iter_tar", "list_tree"),
        "library.doctor": ("examine_machine",),
        "library.events": ("Cancellation", "CancelledError", "Progress"),
        "library.findings": ("Finding", "FindingState"),
        "library.ids": ("Checksum", "ObjectID"),
        "library.locations": ("SYSTEM_REPOSITORY", "find_user_repository"),
        "library.mounts": ("unmount",),
        "library.oci.images": ("OciImages",),
        "library.oci.options": (
            "OciBuildOptions",
            "OciPullOptions",
            "OciTreeOptions",
            "RegistryOptions",
        ),
        "library.oci.results": (
            "LinkedImage",
            "ListedOciImage",
            "OciFsckReport",
            "OciIndexEntry",
            "OciIndexInspection",
            "OciInspection",
            "OciLayer",
            "OciLinkedManifest",
            "OciPullOutcome",
        ),
        "library.patience": ("Patience",),
        "library.remotes": ("NewRemote", "add_remote", "list_remotes", "remove_remote"),
        "library.pruning": ("PruneDecision", "PruneOptions", "PruneResult"),
        "library.reports": ("draw_report", "report_diff"),
        "library.repository": ("Repository",),
        "library.results": (
            "CommitInfo",
            "KeptTarget",
            "ListedCommit",
            "ListedImage",
            "RefChange",
            "RefSize",
            "RemoteRef",
        ),
        "library.setup": ("InitStatus", "init_repository"),
        "library.sources": ("SourceOptions", "find_remote", "list_refs"),
        "library.trees": ("ScanOptions", "compute_id", "create_dumpfile", "format_kernel_argument"),
        "mount": ("WritableLayer",),
        "oci.boot_images": ("BootMatch",),
        "oci.build": ("OciBuildResult",),
        "oci.check": ("OciReport",),
        "oci.delta.make": ("OciDeltaResult",),
        "oci.digest": ("OciDigest", "OciDigestError"),
        "oci.finalize": ("FinalizedImage",),
        "oci.layer_transfer": ("ReceivedLayer",),
        "oci.pull": ("OciPullResult",),
        "oci.pull_index": ("OciIndexPullResult",),
        "oci.pull_plan": ("OciPullPlan",),
        "oci.push": (
            "DigestChangedError",
            "OciPushResult",
        ),
        "oci.store.layer_writer": ("ImportCounts",),
        "oci.store.layers": ("LayerFacts",),
        "oci.store.listing": ("OciImageSummary",),
        "ostree.exchange.commit": ("CommitResult",),
        "ostree.pull.dry_run": ("PullEstimate",),
        "ostree.pull.options": ("PullOptions", "PullResult"),
        "ostree.store.binding": ("PolicyError",),
        "ostree.store.history": ("LogEntry",),
        "ostree.store.refs": ("CommitNotFoundError",),
        "ostree.tree.composefs_digest": ("DigestCheck",),
        "ostree.tree.xattr_names": ("XattrNames",),
        "ostree.trust.from_keys": ("KeySpellingError", "trust_keys"),
        "ostree.trust.policy": ("TrustPolicy",),
        "ostree.trust.remotes": ("Remote",),
        "ostree.trust.verdict": ("ValidSignature",),
        "progress": ("Advanced", "Done", "Event", "Message", "Skipped", "Started", "Unit", "Waiting"),
        "repository": ("Durability", "InvalidNameError", "LockedError", "NotARepositoryError", "Ref"),
        "repository.check.report": ("FsckReport", "Tally"),
        "repository.copying": ("CopyCounts",),
        "repository.gc.results": ("DeleteLimit", "GcResult", "Why"),
        "repository.gc.mount_finder": ("LiveMount",),
        "repository.gc.mounted": ("MountList", "MountedImage"),
        "repository.gc.stats": ("RefStats", "Stats"),
        "repository.mounting.choice": ("FuseMode", "FuseOptions"),
        "repository.history.changes": ("NothingKeptError",),
        "repository.history.retention": ("RetentionRules",),
        "repository.names.links": ("RefExistsError",),
        "repository.names.short_ids": ("AmbiguousIdError",),
        "repository.repair.repair": ("RepairReport",),
        "tree.transform": ("XattrFilter",),
    }
    """Where each public name is, below this package: what programs see."""

    _INNER = {
        "ConnectionOptions": "Options",
        "TreePlace": "Place",
        "OciBuildResult": "BuildResult",
        "OciDeltaResult": "DeltaResult",
        "OciPullResult": "PullResult",
        "OciIndexPullResult": "IndexPullResult",
        "OciPullPlan": "PullPlan",
        "OciPushResult": "PushResult",
        "OciImageSummary": "ImageSummary",
    }
    """Public names that are others where they are defined."""

    __all__ = ["__version__", *(name for names in _MODULES.values() for name in names)]  # noqa: PLE0604 - they are

    def __getattr__(name: str) -> object:
        """Import a public name when it is first used (PEP 562)."""
        for module, names in _MODULES.items():
            if name in names:
                from importlib import import_module  # commands do without

                value: object = getattr(import_module(f"{__name__}.{module}"), _INNER.get(name, name))
                globals()[name] = value
                return value
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

    def __dir__() -> list[str]:
        """Return the public names, imported or not, and the others of this module."""
        return sorted({*globals(), *__all__})
