"""Check the images of a repository, tag by tag; nothing is changed.

What is wrong with a manifest ends the check of that image, since it says what else belongs to it. A deep
check also reassembles every layer, and makes the file system images of the tree again to compare
their IDs.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from cfsctl.digest import DigestFormatError, ObjectID, parse_object_id
from cfsctl.errors import CfsError, FormatError, describe
from cfsctl.oci.boot_images import turn_bootable
from cfsctl.oci.manifest import ImageConfig, Manifest, parse_config, parse_manifest
from cfsctl.oci.store.documents import find_only_object
from cfsctl.oci.store.image_refs import list_images
from cfsctl.oci.store.images import open_found, resolve, verify_layer
from cfsctl.oci.store.index_names import find_index
from cfsctl.oci.store.indexes import iter_listed, open_index
from cfsctl.oci.store.names import CONFIG_REF, INDEX_TAGS, LAYER, MANIFEST, TAGS
from cfsctl.oci.store.publish import compute_image
from cfsctl.oci.to_tree import image_tree
from cfsctl.splitstream.format import ContentType

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cfsctl.oci.digest import OciDigest
    from cfsctl.oci.store.image_refs import ImageKind
    from cfsctl.repository import Repository

SEAL_LABEL: Final = "containers.composefs.fsverity"
"""Label of a config that holds the ID of the image it was sealed with."""


@dataclass(slots=True)
class OciReport:
    """The result of a check.

    Attributes:
        checked: Images looked at.
        corrupted: Of those, the bad ones.
        findings: One line each.
    """

    checked: int = 0
    corrupted: int = 0
    findings: list[str] = field(default_factory=list)

    @property
    def is_ok(self) -> bool:
        """Whether nothing was found."""
        return not self.findings

    def lines(self) -> list[str]:
        """Return the report as text."""
        lines = [f"oci images: {self.checked - self.corrupted}/{self.checked} ok"]
        if self.findings:
            lines.append(f"oci errors: {len(self.findings)}")
        return lines + [f"  - {text}" for text in self.findings]


def check_images(repository: Repository, name: str | None = None, *, deep: bool = False) -> OciReport:
    """Check all images that have a tag, or one image.

    Args:
        repository: The repository, open.
        name: What a user types to name the one image, or None for all.
        deep: Read all layers, and make all file system images again.
    """
    report = OciReport()
    if name is not None:
        report.checked = 1
        _check_named(repository, name, report, deep=deep)
        return report
    streams = repository.streams
    found = [(tag.name, tag.target, _check_one) for tag in TAGS.list(streams)]
    found += [(tag.name, tag.target, _check_index) for tag in INDEX_TAGS.list(streams)]
    for tag_name, digest, check in sorted(found, key=lambda entry: entry[0]):
        check(repository, tag_name, digest, report, deep=deep)
    return report


def _check_index(
    repository: Repository, tag: str, digest: OciDigest, report: OciReport, *, deep: bool
) -> None:
    """Check an index, which counts as one image, and all that it leads to."""
    found: list[str] = []
    try:
        for descriptor, _, inner in iter_listed(repository, open_index(repository, digest)):
            if inner is None:
                found += _ImageCheck(repository, f"{tag}: {descriptor.digest}", deep=deep).run(
                    descriptor.digest
                )
    except (CfsError, OSError) as error:
        found.append(f"fsck: index-read-failed: {tag}: {describe(error)}")
    report.checked += 1
    report.corrupted += bool(found)
    report.findings += found


def _check_named(repository: Repository, name: str, report: OciReport, *, deep: bool) -> None:
    index = find_index(repository, name)
    if index is not None:
        report.checked = 0
        _check_index(repository, name, index, report, deep=deep)
        return
    try:
        found = resolve(repository, name)
        digest = found.manifest or open_found(repository, found).digest
    except (CfsError, OSError) as error:
        report.findings.append(f"fsck: ref-resolve-failed: {name}: {describe(error)}")
        report.corrupted += 1
        return
    report.checked = 0
    _check_one(repository, name, digest, report, deep=deep)


def _check_one(repository: Repository, tag: str, digest: OciDigest, report: OciReport, *, deep: bool) -> None:
    found = _ImageCheck(repository, tag, deep=deep).run(digest)
    report.checked += 1
    report.corrupted += bool(found)
    report.findings += found


class _StopCheckError(Exception):
    """Something was found without which nothing more can be said."""


class _ImageCheck:
    """Checks one image."""

    def __init__(self, repository: Repository, tag: str, *, deep: bool) -> None:
        self._repository = repository
        self._tag = tag
        self._is_tag = not tag.startswith("@") or TAGS.find(repository.streams, tag) is not None
        self._is_deep = deep
        self._found: list[str] = []

    def run(self, digest: OciDigest) -> list[str]:
        if self._is_tag and self._tag.startswith("@"):
            self._find("invalid-ref-name", "leading '@' is reserved for digest references")
        with contextlib.suppress(_StopCheckError):
            self._check(digest)
        return self._found

    def _find(self, kind: str, detail: object) -> None:
        self._found.append(f"fsck: {kind}: {self._tag}: {detail}")

    def _stop(self, kind: str, detail: object) -> None:
        self._find(kind, detail)
        raise _StopCheckError

    def _check(self, digest: OciDigest) -> None:
        stream_id = self._repository.streams.find(f"{MANIFEST}{digest}")
        if stream_id is None:
            self._stop("manifest-read-failed", f"Manifest {digest} not found")
            return
        data, refs = self._read("manifest", stream_id, ContentType.OCI_MANIFEST, digest)
        try:
            manifest = parse_manifest(data)
        except FormatError as error:
            self._stop("manifest-parse-failed", error)
            return
        config_digest = manifest.config.digest
        config_id = refs.get(f"{CONFIG_REF}{config_digest}")
        if config_id is None:
            self._stop("config-ref-missing", config_digest)
            return
        data, config_refs = self._read("config", config_id, ContentType.OCI_CONFIG, config_digest)
        if manifest.is_container:
            self._check_container(data, config_refs)
        else:
            self._check_artifact(manifest, {**config_refs, **refs})

    def _read(
        self, kind: str, stream_id: ObjectID, content_type: ContentType, digest: OciDigest
    ) -> tuple[bytes, Mapping[str, ObjectID]]:
        """Return a document and what its stream refers to."""
        repository = self._repository
        try:
            with repository.streams.open_object(stream_id, content_type) as reader:
                data = repository.objects.read(find_only_object(reader))
                refs = dict(reader.named_refs)
            computed = digest.new_hash()
        except (CfsError, OSError) as error:
            self._stop(f"{kind}-read-failed", error)
            raise
        computed.update(data)
        if computed.hexdigest() != digest.encoded:
            actual = f"{digest.algorithm}:{computed.hexdigest()}"
            self._stop(f"{kind}-digest-mismatch", f"expected {digest}, got {actual}")
        return data, refs

    def _check_container(self, data: bytes, refs: Mapping[str, ObjectID]) -> None:
        try:
            config = parse_config(data)
        except FormatError as error:
            self._stop("config-parse-failed", error)
            return
        count = len(self._found)
        for digest in config.diff_ids:
            stream_id = refs.get(str(digest))
            if stream_id is None:
                self._find("layer-ref-missing", digest)
            else:
                self._check_layer(digest, stream_id)
        self._check_seal(config)
        images = list_images(refs)
        for kind, image_id in images:
            if self._repository.images.find(image_id.hex()) is None:
                self._find("image-link-missing", f"{kind.ref}: {image_id.hex()}")
        if self._is_deep and len(self._found) == count:
            self._compare_images(config, refs, images)

    def _check_layer(self, digest: OciDigest, stream_id: ObjectID) -> None:
        repository = self._repository
        if repository.streams.find(f"{LAYER}{digest}") is None:
            self._find("layer-stream-missing", digest)
        try:
            with repository.streams.open_object(stream_id, ContentType.OCI_LAYER) as reader:
                missing = repository.objects.find_missing(reader.object_refs)
            if self._is_deep and not missing:
                verify_layer(repository, digest, stream_id)
        except (CfsError, OSError) as error:
            self._find("layer-check-failed", f"{digest}: {describe(error)}")
            return
        for object_id in missing:
            self._find("layer-object-missing", f"{digest}: {object_id.hex()}")

    def _check_seal(self, config: ImageConfig) -> None:
        text = config.labels.get(SEAL_LABEL)
        if text is None:
            return
        try:
            image_id = parse_object_id(text.lower(), self._repository.algorithm)
            if self._repository.images.find(image_id.hex()) is None:
                self._find("seal-image-missing", f"{text}: image not found")
        except (DigestFormatError, CfsError) as error:
            self._find("seal-image-missing", f"{text}: {error}")

    def _compare_images(
        self, config: ImageConfig, refs: Mapping[str, ObjectID], images: list[tuple[ImageKind, ObjectID]]
    ) -> None:
        """Make each image again of which that is possible, and compare."""
        layers = [(digest, refs[str(digest)]) for digest in config.diff_ids]
        for kind, image_id in images:
            try:
                if image_id not in self._make_images(layers, kind):
                    self._find(
                        "image-mismatch", f"{kind.ref}: {image_id.hex()} is not the image of the layers"
                    )
            except (CfsError, OSError) as error:
                self._find("image-check-failed", f"{kind.ref}: {describe(error)}")

    def _make_images(self, layers: list[tuple[OciDigest, ObjectID]], kind: ImageKind) -> set[ObjectID]:
        """Return the IDs that an image of a kind may have."""
        repository = self._repository
        found: set[ObjectID] = set()
        # Boot images of releases before 0.9.4 are by another rule, and as good.
        for keep_nanoseconds in (False, True) if kind.is_bootable else (False,):
            tree = image_tree(repository, layers, kind.xattr_filter)
            if kind.is_bootable:
                turn_bootable(repository, tree, keep_nanoseconds=keep_nanoseconds)
            found |= compute_image(tree, kind, repository.algorithm)
        return found

    def _check_artifact(self, manifest: Manifest, refs: Mapping[str, ObjectID]) -> None:
        repository = self._repository
        for layer in manifest.layers:
            stream_id = refs.get(str(layer.digest))
            if stream_id is None:
                self._find("artifact-layer-ref-missing", layer.digest)
                continue
            try:
                with repository.streams.open_object(stream_id, ContentType.OCI_BLOB) as reader:
                    missing = repository.objects.find_missing([find_only_object(reader)])
                if self._is_deep and not missing:
                    verify_layer(repository, layer.digest, stream_id)
            except (CfsError, OSError) as error:
                self._find("artifact-layer-object-missing", f"{layer.digest}: {describe(error)}")
                continue
            for object_id in missing:
                self._find("artifact-layer-object-missing", f"{layer.digest}: {object_id.hex()}")
