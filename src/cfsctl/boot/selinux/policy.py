"""The file contexts of an SELinux policy: found in a tree, parsed, and asked about paths.

    /etc/selinux/config                         SELINUXTYPE=NAME
    /etc/selinux/NAME/contexts/files/
        file_contexts                           expressions, must be there
        file_contexts.local, .homedirs          more of them; the last line that matches wins
        file_contexts.subs, .subs_dist          paths that are looked up as if they were others

libselinux sorts lines and reads ``homedirs`` before ``local``; the original does neither, and the digests of
bootable images follow the original.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from cfsctl.boot.content import read_file
from cfsctl.boot.selinux.escapes import PatternError, UnsupportedPatternError
from cfsctl.boot.selinux.patterns import compile_pattern, translate
from cfsctl.errors import FormatError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from cfsctl.boot.content import ContentReader
    from cfsctl.tree.model import FileSystem

CONFIG: Final = b"/etc/selinux/config"
CONTEXTS: Final = ("file_contexts", "file_contexts.local", "file_contexts.homedirs")
SUBSTITUTIONS: Final = ("file_contexts.subs", "file_contexts.subs_dist")
TYPE_LETTERS: Final = "bcdpls-"
"""Letters of file types; a regular file has ``-``."""

NO_LABEL: Final = "<<none>>"
MAX_LINES: Final = 100_000
"""Lines of all files together; the policy of Fedora has some 7,000."""


class PolicyError(FormatError):
    """A policy that cannot be read."""


class _Rule:
    """One line of file contexts; its expression is compiled when it is first tried."""

    __slots__ = ("_match", "context", "place", "regex", "suffix")

    def __init__(self, regex: str, suffix: str, context: str, place: str) -> None:
        self.regex = regex
        self.suffix = suffix
        self.context = context
        self.place = place
        self._match: Callable[[bytes], object] | None = None

    def matches(self, subject: bytes) -> bool:
        if self._match is None:
            try:
                self._match = compile_pattern(self.regex, self.suffix)
            except PatternError as error:
                raise _invalid(self, error) from error
        return bool(self._match(subject))


def _invalid(rule: _Rule, error: PatternError) -> PolicyError:
    hint = "install it with `pip install 'cfsctl[pcre2]'`"
    return PolicyError(
        f"SELinux policy, {rule.place}: invalid expression {rule.regex!r}: {error}",
        hint=hint if isinstance(error, UnsupportedPatternError) else None,
    )


class Policy:
    """File contexts in the order in which they are looked through, the last line first.

    Rules are found by the bytes that their expression begins with: of several thousand lines, a handful
    can match a given path.
    """

    def __init__(self, rules: Iterable[_Rule], aliases: dict[bytes, bytes]) -> None:
        """Index the rules.

        Raises:
            PolicyError: An expression is invalid.
        """
        self.aliases = aliases
        self._by_prefix: dict[bytes, list[tuple[int, _Rule]]] = {}
        for number, rule in enumerate(rules):
            try:
                prefix = translate(rule.regex, rule.suffix).prefix
            except PatternError:
                prefix = b""
                # Left to PCRE2 or wrong: said now, whether or not a path ever needs the rule.
                rule.matches(b"")
            self._by_prefix.setdefault(prefix, []).append((number, rule))
        self._lengths = sorted({len(prefix) for prefix in self._by_prefix})

    def find_label(self, path: bytes, letter: str) -> bytes | None:
        """Return the label of a path, or None if it has none.

        Args:
            path: Absolute, after substitution.
            letter: Letter of its type, see `TYPE_LETTERS`.
        """
        subject = path + letter.encode()
        candidates: list[tuple[int, _Rule]] = []
        for length in self._lengths:
            if length > len(subject):
                break
            found = self._by_prefix.get(subject[:length])
            if found is not None:
                candidates += found
        candidates.sort(key=_number, reverse=True)
        for _, rule in candidates:
            if rule.matches(subject):
                return None if rule.context == NO_LABEL else rule.context.encode()
        return None


def _number(candidate: tuple[int, _Rule]) -> int:
    return candidate[0]


def find_policy(filesystem: FileSystem, reader: ContentReader) -> Policy | None:
    """Return the policy that a tree contains; None if it names none, so that no file has a label.

    Raises:
        PolicyError: A file of the policy is missing or cannot be parsed.
        BootFileError: A file of the policy is not a regular file, or too large.
        TreePathError: A component of a path is not a directory.
    """
    config = read_file(filesystem, CONFIG, reader)
    name = None if config is None else parse_policy_name(config)
    if name is None:
        return None
    directory = b"/etc/selinux/" + name.encode() + b"/contexts/files/"

    def read_lines(file: str) -> Iterator[tuple[str, list[str]]]:
        content = read_file(filesystem, directory + file.encode(), reader)
        if content is None:
            if file == CONTEXTS[0]:
                raise PolicyError(
                    "SELinux policy is missing mandatory file_contexts file",
                    hint=f"{CONFIG.decode()} names the policy '{name}'",
                )
            return iter(())
        return _iter_lines(content, file)

    rules = [parse_rule(fields, place) for file in CONTEXTS for place, fields in read_lines(file)]
    if len(rules) > MAX_LINES:
        raise PolicyError(f"SELinux policy: {len(rules)} lines; expected {MAX_LINES} at most")
    aliases = dict(
        parse_substitution(fields, place) for file in SUBSTITUTIONS for place, fields in read_lines(file)
    )
    return Policy(rules, aliases)


def parse_policy_name(config: bytes) -> str | None:
    """Return the name of the policy in ``/etc/selinux/config``, or None.

    The value is taken as it is: quotes and comments behind it are part of it, as with the original.

    Raises:
        PolicyError: The file is not UTF-8, or the name is not a name of a directory.
    """
    for line in _decode(config, "config").split("\n"):
        key, equals, value = line.partition("=")
        if equals and key.strip().upper() == "SELINUXTYPE":
            name = value.strip()
            if "/" in name or name in {"", ".", ".."} or "\0" in name:
                raise PolicyError(f"{CONFIG.decode()}: SELINUXTYPE {name!r} is not the name of a directory")
            return name
    return None


def _decode(content: bytes, file: str) -> str:
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise PolicyError(f"SELinux policy, {file}: not valid UTF-8 at byte {error.start}") from error


def _iter_lines(content: bytes, file: str) -> Iterator[tuple[str, list[str]]]:
    """Yield where each line stands, and its fields; comments and empty lines are skipped."""
    # Only \n ends a line; fields are split at every kind of white space.
    for number, line in enumerate(_decode(content, file).split("\n"), 1):
        fields = line.split()
        if fields and not fields[0].startswith("#"):
            yield f"{file}, line {number}", fields


def parse_rule(fields: list[str], place: str) -> _Rule:
    """Return the rule of a line ``REGEX [-TYPE] CONTEXT``.

    Raises:
        PolicyError: The line has other fields.
    """
    if len(fields) < 2:
        raise PolicyError(f"SELinux policy, {place}: missing separator after regex")
    regex, second, *rest = fields
    suffix, context = ".", second
    if second.startswith("-"):
        if len(second) != 2 or second[1] not in TYPE_LETTERS:
            raise PolicyError(f"SELinux policy, {place}: invalid type code {second}")
        if not rest:
            raise PolicyError(f"SELinux policy, {place}: missing context field")
        suffix, context = second[1], rest.pop(0)
    if rest:
        raise PolicyError(f"SELinux policy, {place}: trailing data")
    return _Rule(regex, suffix, context.rstrip("\0"), place)


def parse_substitution(fields: list[str], place: str) -> tuple[bytes, bytes]:
    """Return the alias and the original of a line ``ALIAS ORIGINAL``.

    Raises:
        PolicyError: The line has other fields.
    """
    if len(fields) < 2:
        raise PolicyError(f"SELinux policy, {place}: missing original path")
    if len(fields) > 2:
        raise PolicyError(f"SELinux policy, {place}: trailing data")
    return fields[0].encode(), fields[1].encode()
