"""Find stored images by name, and open them with all digests verified.

A name can be a tag; the digest of a manifest or config, with or without ``@`` before it; or a unique prefix
of the digits of one. A name with an ``@`` is never a tag.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from cfsctl.errors import CfsError, ExitCode, IntegrityError, RefNotFoundError, RepositoryError
from cfsctl.oci.digest import OciDigest, OciDigestError, parse_digest, parse_digest_argument
from cfsctl.oci.manifest import Manifest, parse_config, parse_manifest
from cfsctl.oci.reference import host_platform
from cfsctl.oci.store.documents import StoredDocument, read_document
from cfsctl.oci.store.index_names import choose_image, find_index, find_tagged_index
from cfsctl.oci.store.indexes import tag_index
from cfsctl.oci.store.names import (
    CONFIG,
    CONFIG_REF,
    INDEX,
    LAYER,
    MANIFEST,
    TAGS,
    check_tag,
    find_short_digest,
    iter_digests,
    list_tag_names,
)
from cfsctl.repository.names.names import InvalidNameError, suggest
from cfsctl.repository.names.short_ids import AmbiguousIdError, parse_short_id
from cfsctl.splitstream.format import ContentType

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from cfsctl.digest import ObjectID
    from cfsctl.oci.manifest import ImageConfig
    from cfsctl.repository import Repository
    from cfsctl.repository.names.short_ids import ShortId

_MIN_DIGITS: Final = 2
"""Digits of a digest that suffice, as for the original."""
_DIGITS: Final = 64


class OciNotFoundError(RefNotFoundError):
    """A name or digest that no stored image has."""


class NotAnImageError(RepositoryError):
    """An artifact where an image with a file system is needed."""

    exit_code = ExitCode.INVALID_DATA


@dataclass(frozen=True, slots=True)
class Found:
    """What a user means.

    Attributes:
        manifest: The manifest, or None if a config was named that has none.
        config: The config, or None if only the manifest is known so far.
        tag: The tag that was typed, or None if it was a digest.
    """

    manifest: OciDigest | None
    config: OciDigest | None
    tag: str | None


@dataclass(frozen=True, slots=True)
class StoredImage:
    """An image or artifact with its documents.

    Attributes:
        digest: The manifest's digest.
        manifest: The manifest.
        manifest_document: The manifest as it is stored.
        config_document: The config as it is stored.
    """

    digest: OciDigest
    manifest: Manifest
    manifest_document: StoredDocument
    config_document: StoredDocument

    @property
    def layer_refs(self) -> Mapping[str, ObjectID]:
        """Streams of the layers by digest, among other references.

        Artifacts share configs, above all the empty one, which names the layers of one of them only.
        """
        if self.manifest.is_container:
            return self.config_document.refs
        return {**self.config_document.refs, **self.manifest_document.refs}


@dataclass(frozen=True, slots=True)
class StoredConfig:
    """The config of an image with a file system.

    Attributes:
        digest: Its digest.
        config: The config.
        document: The config as it is stored.
    """

    digest: OciDigest
    config: ImageConfig
    document: StoredDocument

    def layers(self) -> list[tuple[OciDigest, ObjectID]]:
        """Return digest and stream of each layer, lowest first.

        Raises:
            IntegrityError: The config's stream lacks one.
        """
        refs = self.document.refs
        for digest in self.config.diff_ids:
            if str(digest) not in refs:
                raise IntegrityError(f"stored config {self.digest}: missing named ref to layer {digest}")
        return [(digest, refs[str(digest)]) for digest in self.config.diff_ids]


def resolve(repository: Repository, text: str) -> Found:
    """Return the image that a user names; its streams exist.

    Raises:
        OciNotFoundError: Nothing of that name.
        AmbiguousIdError: The beginning of several digests.
        DigestArgumentError: No digest behind an ``@``.
    """
    short = parse_short_id(text, _MIN_DIGITS)
    if text.startswith("@") and (short is None or len(short.digits) == _DIGITS):
        digest = text[1:] if short is None or short.hash_name else f"sha256:{short.digits}"
        return _find_digest(repository, parse_digest_argument(digest, "digest after '@'"))
    tagged = None if text.startswith("@") else _find_tag(repository, text)
    if tagged is not None:
        if repository.streams.find(f"{MANIFEST}{tagged}") is None:
            raise OciNotFoundError(f"tag {text}: Manifest {tagged} not found", hint="pull it again")
        return Found(tagged, None, text)
    index = None if text.startswith("@") else find_tagged_index(repository, text)
    if index is not None:
        return Found(_choose(repository, index), None, text)
    try:
        return _find_digest(repository, parse_digest(text))
    except OciDigestError:
        pass
    found = _find_short(repository, short)
    if found is None:
        raise _not_found(repository, text)
    return found


def _choose(repository: Repository, index: OciDigest) -> OciDigest:
    """Return the image of an index that this machine runs.

    Raises:
        OciNotFoundError: There is none.
    """
    wanted = host_platform()
    found = choose_image(repository, index, wanted)
    if found is None:
        raise OciNotFoundError(
            f"index {index}: no image for {wanted}",
            hint="list its images with `cfsctl oci inspect`, and name one by its digest",
        )
    return found


def _not_found(repository: Repository, text: str) -> OciNotFoundError:
    hint = suggest(text, list_tag_names(repository))
    return OciNotFoundError(
        f"OCI reference not found: {text}", hint=hint or "list the images with `cfsctl oci images`"
    )


def _find_tag(repository: Repository, text: str) -> OciDigest | None:
    try:
        return TAGS.find(repository.streams, text)
    except InvalidNameError:
        return None


def _find_digest(repository: Repository, digest: OciDigest) -> Found:
    if repository.streams.find(f"{MANIFEST}{digest}") is not None:
        return Found(digest, None, None)
    if repository.streams.find(f"{CONFIG}{digest}") is not None:
        return Found(None, digest, None)
    if repository.streams.find(f"{INDEX}{digest}") is not None:
        return Found(_choose(repository, digest), None, None)
    raise OciNotFoundError(
        f"OCI reference not found: {digest} is neither a manifest nor a config here",
        hint="list the images with `cfsctl oci images`",
    )


def _find_short(repository: Repository, short: ShortId | None) -> Found | None:
    """Return the only manifest, else the only config, whose digest has this prefix."""
    if short is None:
        return None
    manifest = find_short_digest(repository, MANIFEST, short, lambda one: _tags_of(repository, one))
    if manifest is not None:
        return Found(manifest, None, None)
    config = find_short_digest(repository, CONFIG, short)
    if config is not None:
        return Found(None, config, None)
    index = find_short_digest(repository, INDEX, short)
    return None if index is None else Found(_choose(repository, index), None, None)


def _tags_of(repository: Repository, encoded: str) -> str | None:
    """Return the tags of a manifest as they are listed next to its digest."""
    tags = TAGS.list(repository.streams)
    return ", ".join(tag.name for tag in tags if tag.target.encoded == encoded) or None


def open_image(repository: Repository, digest: OciDigest) -> StoredImage:
    """Open a stored manifest with its config; the digests of both are checked.

    Raises:
        OciNotFoundError: It is not stored.
        FormatError, IntegrityError: What is stored is damaged.
    """
    stream_id = repository.streams.find(f"{MANIFEST}{digest}")
    if stream_id is None:
        raise OciNotFoundError(f"Manifest {digest} not found")
    return open_manifest_stream(repository, digest, stream_id)


def open_manifest_stream(repository: Repository, digest: OciDigest, stream_id: ObjectID) -> StoredImage:
    """Open a manifest by its splitstream object, which need not have a name; see `open_image`."""
    document = read_document(repository, stream_id, ContentType.OCI_MANIFEST, digest)
    manifest = parse_manifest(document.data, f"manifest {digest}")
    config_digest = manifest.config.digest
    config_id = document.refs.get(f"{CONFIG_REF}{config_digest}")
    if config_id is None:
        raise IntegrityError(f"stored manifest {digest}: Manifest missing config reference")
    config = read_document(repository, config_id, ContentType.OCI_CONFIG, config_digest)
    return StoredImage(digest, manifest, document, config)


def open_found(repository: Repository, found: Found) -> StoredImage:
    """Open what a user means as a manifest; of a config the one that has it.

    Raises:
        OciNotFoundError: No manifest has this config.
        AmbiguousIdError: Several have.
        FormatError, IntegrityError: What is stored is damaged.
    """
    if found.manifest is not None:
        return open_image(repository, found.manifest)
    matches = find_manifests(repository, f"{CONFIG_REF}{found.config}")
    if not matches:
        raise OciNotFoundError(f"no stored manifest has the config {found.config}")
    if len(matches) > 1:
        raise AmbiguousIdError(
            f"{len(matches)} manifests have the config {found.config}: {', '.join(map(str, matches))}"
        )
    return open_image(repository, matches[0])


def find_manifests(repository: Repository, ref: str) -> list[OciDigest]:
    """Return the manifests whose streams have a reference of this name, ascending."""
    found = []
    for digest in iter_digests(repository, MANIFEST):
        stream_id = repository.streams.find(f"{MANIFEST}{digest}")
        if stream_id is None:
            continue
        try:
            with repository.streams.open_object(stream_id, ContentType.OCI_MANIFEST) as reader:
                if ref in reader.named_refs:
                    found.append(digest)
        except (CfsError, OSError):
            continue  # which is for a check to tell
    return found


def open_config(repository: Repository, found: Found) -> StoredConfig:
    """Open the config of what a user means.

    Raises:
        NotAnImageError: It is an artifact.
        FormatError, IntegrityError: What is stored is damaged.
    """
    if found.manifest is not None:
        return config_of(open_image(repository, found.manifest))
    digest = found.config
    assert digest is not None
    stream_id = repository.streams.find(f"{CONFIG}{digest}")
    if stream_id is None:
        raise OciNotFoundError(f"Config {digest} not found")
    document = read_document(repository, stream_id, ContentType.OCI_CONFIG, digest)
    return StoredConfig(digest, parse_config(document.data, f"config {digest}"), document)


def open_trusted_config(
    repository: Repository, found: Found, config_stream: ObjectID | None = None
) -> StoredConfig:
    """Open the config of what a user means; layers are verified unless the streams can be relied on.

    Those that a tag names can be, and those of a config whose stream has the ID that was expected.

    Raises:
        NotAnImageError: It is an artifact.
        FormatError, IntegrityError: What is stored is damaged, or not the stream that was expected.
    """
    config = open_config(repository, found)
    if found.tag is not None:
        return config
    if config_stream is None:
        verify_layers(repository, config.layers())
    elif config.document.stream_id != config_stream:
        raise IntegrityError(
            f"config {config.digest}: expected the stream {config_stream.hex()},"
            f" found {config.document.stream_id.hex()}"
        )
    return config


def config_of(image: StoredImage) -> StoredConfig:
    """Return the config of an image.

    Raises:
        NotAnImageError: It is an artifact.
    """
    if not image.manifest.is_container:
        raise NotAnImageError(
            f"manifest {image.digest}: this is an artifact and has no file system"
            f" (its config is {image.manifest.config.media_type})"
        )
    digest = image.manifest.config.digest
    config = parse_config(image.config_document.data, f"config {digest}")
    return StoredConfig(digest, config, image.config_document)


def set_tag(repository: Repository, text: str, name: str) -> OciDigest:
    """Make a tag name a stored manifest or index, in place of what it named before.

    Args:
        repository: Where.
        text: What a user types to name the image.
        name: The tag.

    Returns:
        The manifest or index.

    Raises:
        InvalidNameError: The name cannot be one.
        OciNotFoundError, AmbiguousIdError: The text names no image, or several.
    """
    check_tag(name)
    index = find_index(repository, text)
    if index is not None:
        tag_index(repository, index, name)
        return index
    found = resolve(repository, text)
    digest = found.manifest or open_found(repository, found).digest
    repository.streams.set_ref(TAGS.ref(name), f"{MANIFEST}{digest}")
    return digest


def remove_tag(repository: Repository, name: str) -> None:
    """Remove a tag; its image stays until it is collected.

    Raises:
        OciNotFoundError: There is no such tag.
    """
    try:
        repository.streams.remove_ref(TAGS.ref(name))
    except (RefNotFoundError, InvalidNameError) as error:
        hint = suggest(name, list_tag_names(repository)) or "list the tags with `cfsctl oci images`"
        raise OciNotFoundError(f"Failed to remove tag {name}: {error}", hint=hint) from error


def verify_layers(repository: Repository, layers: list[tuple[OciDigest, ObjectID]]) -> None:
    """Restore every layer and compare it with its digest.

    Raises:
        IntegrityError: One is another layer.
        SplitstreamError: One is damaged.
    """
    for digest, stream_id in layers:
        verify_layer(repository, digest, stream_id)


def verify_layer(repository: Repository, digest: OciDigest, stream_id: ObjectID) -> None:
    """Restore one layer and compare it with its digest; see `verify_layers`."""
    computed = digest.new_hash()
    with repository.streams.open_object(stream_id) as reader:
        reader.cat(computed.update, repository.objects.open)
    if computed.hexdigest() != digest.encoded:
        raise IntegrityError(
            f"layer {digest}: Layer has incorrect checksum: found {digest.algorithm}:{computed.hexdigest()}",
            hint="remove the image and collect garbage, then pull it again",
        )


def iter_layer_names(image: StoredImage) -> Iterator[str]:
    """Yield the names of the streams of an image's layers, lowest first."""
    if image.manifest.is_container:
        digests: tuple[OciDigest, ...] = config_of(image).config.diff_ids
    else:
        digests = tuple(layer.digest for layer in image.manifest.layers)
    yield from (f"{LAYER}{digest}" for digest in digests)
