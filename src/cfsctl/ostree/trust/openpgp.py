"""The framing of OpenPGP: packets, keys with their certifications, and ASCII armor.

Nothing is verified here. Keyrings are merged as `gpg --import` does, and signatures are separated from all
other packets. `gpgv` must not see those: it could spend an hour on decompressing a hostile packet.

Format: RFC 4880 and RFC 9580, 4.2 (packets), 5.2.2 (signatures), 5.5.4 (key IDs), 6.2 (armour).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

MAX_PACKETS: Final = 1_000_000
"""Packets of a file of keys."""

SIGNATURE: Final = 2
_PRIMARY_KEY: Final = 6
_USER_ID: Final = 13
_SUBKEY: Final = 14
_USER_ATTRIBUTE: Final = 17

_SECRET_KEYS: Final = frozenset({5, 7})
_COMPONENTS: Final = (_USER_ID, _USER_ATTRIBUTE, _SUBKEY)
"""What a key consists of next to itself, in the order in which it is written."""

_TRUST: Final = 12
_IGNORED: Final = frozenset({10, _TRUST, 16, 21, *range(40, 64)})
"""Markers, GnuPG's trust packets, comments, padding, and other packets to ignore."""

_KEYRING_TAGS: Final = frozenset({SIGNATURE, _PRIMARY_KEY, *_COMPONENTS, _TRUST}) | _SECRET_KEYS
"""How a binary piece of a keyring may begin; text may begin with the same bytes as other packets."""

_KEY_REVOCATION: Final = 0x20

_BEGIN: Final = re.compile(rb"-----BEGIN PGP ([A-Z ]+)-----[ \t]*\r?\n")
_HEADERS: Final = re.compile(rb"(?:[^\r\n]*:[^\r\n]*\r?\n)*[ \t]*\r?\n")
_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"
_CHECKSUM: Final = re.compile(rb"\n=[A-Za-z0-9+/]{4}[ \t\r\n]*\Z")


class OpenPGPError(ValueError):
    """Bytes that are not what they should be; the message says what was expected and what was found."""


class Packet(NamedTuple):
    """A packet.

    Attributes:
        tag: Its type.
        body: Its content.
    """

    tag: int
    body: bytes


# --- packets --------------------------------------------------------------------------------------


def iter_packets(data: bytes) -> Iterator[Packet]:
    """Yield packets until the end.

    Raises:
        OpenPGPError: There is something else, or the last one is cut off.
    """
    offset = 0
    while offset < len(data):
        packet, offset = _read_packet(data, offset)
        yield packet


def _read_packet(data: bytes, offset: int) -> tuple[Packet, int]:
    """Return the packet at an offset, and where it ends."""
    first = data[offset]
    if not first & 0x80:
        raise OpenPGPError(f"expected an OpenPGP packet at byte {offset}, found something else")
    if first & 0x40:
        tag, (size, start) = first & 0x3F, _read_new_size(data, offset + 1)
    else:
        tag, (size, start) = first >> 2 & 0x0F, _read_old_size(data, offset + 1, first & 3)
    end = start + size
    if end > len(data):
        raise OpenPGPError(f"expected a packet of {size} bytes at byte {offset}, found {len(data) - start}")
    return Packet(tag, data[start:end]), end


def _read_new_size(data: bytes, offset: int) -> tuple[int, int]:
    first = _read_number(data, offset, 1)
    if first < 192:
        return first, offset + 1
    if first < 224:
        return ((first - 192) << 8) + _read_number(data, offset + 1, 1) + 192, offset + 2
    if first == 255:
        return _read_number(data, offset + 1, 4), offset + 5
    raise OpenPGPError(f"expected a packet in one piece at byte {offset}, found one in several")


def _read_old_size(data: bytes, offset: int, kind: int) -> tuple[int, int]:
    if kind == 3:
        raise OpenPGPError(f"expected the size of a packet at byte {offset}, found none")
    return _read_number(data, offset, 1 << kind), offset + (1 << kind)


def _read_number(data: bytes, offset: int, size: int) -> int:
    if offset + size > len(data):
        raise OpenPGPError(f"expected a packet at byte {offset}, found the end")
    return int.from_bytes(data[offset : offset + size], "big")


def format_packet(packet: Packet) -> bytes:
    """Return the bytes of a packet."""
    return bytes((0xC0 | packet.tag, 0xFF)) + len(packet.body).to_bytes(4, "big") + packet.body


def _find_class(signature: bytes) -> int:
    """Return the type of a signature, or -1 if unknown."""
    place = 2 if signature[:1] in {b"\2", b"\3"} else 1
    return signature[place] if len(signature) > place else -1


def find_fingerprint(body: bytes) -> bytes | None:
    """Return the fingerprint of a key from its packet, or None for versions that GnuPG does not know."""
    size = len(body)
    match body[:1]:
        case b"\4":
            return hashlib.sha1(b"\x99" + size.to_bytes(2, "big") + body, usedforsecurity=False).digest()
        case b"\5":
            return hashlib.sha256(b"\x9a" + size.to_bytes(4, "big") + body).digest()
        case b"\6":
            return hashlib.sha256(b"\x9b" + size.to_bytes(4, "big") + body).digest()
        case _:
            return None


def find_key_id(body: bytes) -> bytes | None:
    """Return the ID of a key from its packet, or None for versions that GnuPG does not know."""
    fingerprint = find_fingerprint(body)
    if fingerprint is None:
        return None
    return fingerprint[-8:] if body[:1] == b"\4" else fingerprint[:8]


def list_fingerprints(keyring: bytes) -> frozenset[str]:
    """Return the fingerprints of the keys of a binary keyring, subkeys not counted, in capitals."""
    keys = (packet.body for packet in iter_packets(keyring) if packet.tag == _PRIMARY_KEY)
    return frozenset(found.hex().upper() for found in map(find_fingerprint, keys) if found is not None)


def list_key_ids(keyring: bytes) -> frozenset[bytes]:
    """Return the IDs of all keys and subkeys of a binary keyring."""
    keys = (packet.body for packet in iter_packets(keyring) if packet.tag in {_PRIMARY_KEY, _SUBKEY})
    return frozenset(filter(None, map(find_key_id, keys)))


def split_signatures(data: bytes) -> list[bytes]:
    """Return the signature packets of a blob, in which nothing else may be; each as a blob of its own.

    Raises:
        OpenPGPError: There is something else.
    """
    if data.startswith(b"-----BEGIN PGP SIGNATURE-----"):
        data = b"".join(block for _, block in _iter_armoured(data))
    found = []
    for packet in iter_packets(data):
        if packet.tag != SIGNATURE:
            raise OpenPGPError(f"expected signatures, found a packet of type {packet.tag}")
        found.append(format_packet(packet))
    return found


# --- armour ---------------------------------------------------------------------------------------


def _iter_armoured(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield kind and content of armoured blocks; text around them does not count."""
    offset = 0
    while (found := _read_armoured(data, offset)) is not None:
        kind, block, offset = found
        yield kind, block


def _read_armoured(data: bytes, offset: int) -> tuple[bytes, bytes, int] | None:
    """Return kind and content of the next armoured block from an offset on, and where it ends."""
    begin = _BEGIN.search(data, offset)
    while begin is not None and begin.start() > offset and data[begin.start() - 1] != ord("\n"):
        # Only at the start of a line: GnuPG's revocation certificates have a colon before it to prevent
        # imports.
        begin = _BEGIN.search(data, begin.end())
    if begin is None:
        return None
    kind = begin[1]
    closing = b"-----END PGP " + kind + b"-----"
    end = data.find(closing, begin.end())
    headers = _HEADERS.match(data, begin.end())
    if end < 0 or headers is None or headers.end() > end:
        raise OpenPGPError(f"expected an armoured block at byte {begin.start()}, found one that is cut off")
    text = _CHECKSUM.sub(b"\n", b"\n" + data[headers.end() : end])
    try:
        block = base64.b64decode(b"".join(text.split()), validate=True)
    except (binascii.Error, ValueError) as error:
        raise OpenPGPError(f"expected an armoured block at byte {begin.start()}, found {error}") from error
    return kind, block, end + len(closing)


def _iter_blocks(data: bytes) -> Iterator[bytes]:
    """Yield the binary pieces of a file of keys: as it is, armoured, or one after the other."""
    offset = 0
    is_binary = False
    while offset < len(data):
        # What follows a packet is another one, or armour; what follows text may be either, or more text.
        if is_binary and data.startswith(b"-----BEGIN PGP ", offset):
            is_binary = False
        if is_binary or (data[offset] & 0x80 and _find_tag(data[offset]) in _KEYRING_TAGS):
            packet, offset = _read_packet(data, offset)
            is_binary = True
            yield format_packet(packet)
            continue
        found = _read_armoured(data, offset)
        if found is None:
            return
        kind, block, offset = found
        if kind == b"PUBLIC KEY BLOCK":
            yield block
        elif kind == b"PRIVATE KEY BLOCK":
            raise OpenPGPError("expected public keys, found secret ones")
        offset = _skip_line(data, offset)


def _iter_sections(blocks: Iterable[bytes]) -> Iterator[list[Packet]]:
    """Yield packets from one primary key to the next; those in front of the first have none."""
    section: list[Packet] = []
    for count, packet in enumerate(packet for block in blocks for packet in iter_packets(block)):
        if count == MAX_PACKETS:
            raise OpenPGPError(f"expected at most {MAX_PACKETS} packets, found more")
        if packet.tag == _PRIMARY_KEY and section:
            yield section
            section = []
        section.append(packet)
    yield section


def _find_tag(first: int) -> int:
    return first & 0x3F if first & 0x40 else first >> 2 & 0x0F


def _skip_line(data: bytes, offset: int) -> int:
    end = data.find(b"\n", offset)
    return len(data) if end < 0 else end + 1


# --- keyrings -------------------------------------------------------------------------------------


class Keyring:
    """Keys from several files, each key once, with all that any of them has about it.

    A key that is there twice, as it was and as it is now, counts as it is now: what revokes it or makes it
    last longer is a signature, and `gpgv` looks at all of them. Which copy comes first means nothing.
    """

    def __init__(self) -> None:
        """Begin with no keys."""
        self._keys: dict[bytes, dict[Packet, dict[bytes, None]]] = {}
        self._revocations: dict[bytes, None] = {}
        self._count = 0

    def __len__(self) -> int:
        """Return the number of keys, subkeys not counted."""
        return len(self._keys)

    def add(self, data: bytes) -> None:
        """Take the keys of a file, binary or armoured, and certificates that revoke keys.

        Raises:
            OpenPGPError: It has none, or something that is not understood.
        """
        before = self._count
        for packets in _iter_sections(_iter_blocks(data.removeprefix(_BYTE_ORDER_MARK))):
            self._add_packets(packets)
        if self._count == before:
            raise OpenPGPError("expected public keys, found none")

    def _add_packets(self, packets: list[Packet]) -> None:
        """Take one key, or signatures without one, of which those count that revoke a key."""
        components: dict[Packet, dict[bytes, None]] = {}
        own: dict[bytes, None] | None = None
        for packet in packets:
            if packet.tag in _SECRET_KEYS:
                raise OpenPGPError("expected public keys, found secret ones")
            if packet.tag == SIGNATURE:
                self._add_signature(packet.body, components, own)
            elif packet.tag == _PRIMARY_KEY:
                self._count += 1
                components = self._keys.setdefault(packet.body, {})
                own = components.setdefault(packet, {})
            elif packet.tag in _COMPONENTS and components:
                own = components.setdefault(packet, {})
            elif packet.tag not in _IGNORED:
                raise OpenPGPError(f"expected public keys, found a packet of type {packet.tag}")

    def _add_signature(
        self, body: bytes, components: dict[Packet, dict[bytes, None]], own: dict[bytes, None] | None
    ) -> None:
        if _find_class(body) == _KEY_REVOCATION:
            # It may be for any key, wherever it stands: `gpg --import` takes a certificate by itself.
            self._count += not components
            self._revocations[body] = None
            if components:
                next(iter(components.values()))[body] = None
        elif own is not None:
            own[body] = None

    def to_bytes(self) -> bytes:
        """Return all keys as a binary keyring."""
        parts: list[bytes] = []
        for body, components in self._keys.items():
            primary = Packet(_PRIMARY_KEY, body)
            signatures = components[primary] | self._find_revocations(find_key_id(body))
            parts += _format_component(primary, signatures)
            for tag in _COMPONENTS:
                for component, found in components.items():
                    if component.tag == tag:
                        parts += _format_component(component, found)
        return b"".join(parts)

    def _find_revocations(self, key_id: bytes | None) -> dict[bytes, None]:
        """Return those that may be by the key with this ID; whether they are, `gpgv` finds out."""
        return {body: None for body in self._revocations if key_id is None or key_id in body}


def _format_component(component: Packet, signatures: Iterable[bytes]) -> Iterator[bytes]:
    yield format_packet(component)
    for body in signatures:
        yield format_packet(Packet(SIGNATURE, body))
