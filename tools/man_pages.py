"""Write the manual pages from the help texts and from what docs/man/prose.toml has besides.

    python tools/man_pages.py [DIRECTORY]

Every command of cfsctl has a page, and every group one with all its commands. What stands in a page about
options comes from the programs themselves: from the command tree, or from the help text of the tools. The
package click-man does the first part only, and not for commands that are imported when they are used.
"""

from __future__ import annotations

import json
import re
import sys
import textwrap
import tomllib
from dataclasses import dataclass, field
from inspect import cleandoc
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from cfsctl import __version__
from cfsctl.cli.app import cfsctl
from cfsctl.cli.help import GENERAL, iter_option_sections
from cfsctl.cli.lazy import LazyGroup
from cfsctl.cli.tools import composefs_info, mkcomposefs, mount_composefs, setup_root

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

DOCS: Final = Path(__file__).parents[1] / "docs"
EXAMPLES: Final = DOCS.parent / "src" / "cfsctl" / "cli" / "examples.py"
"""Where help texts have their examples from."""

TOOLS: Final = {
    "mkcomposefs": (1, mkcomposefs.USAGE),
    "composefs-info": (1, composefs_info.USAGE),
    "mount.composefs": (8, mount_composefs.USAGE),
    "composefs-setup-root": (8, setup_root.USAGE),
}
"""Section and help text of the programs that are no command of cfsctl."""

_WIDTH: Final = 72
"""Characters of a line of the source; longer ones are only put up with where a word is longer."""


@dataclass
class Entry:
    """Something that is described: its term, a paragraph or more, and what it is part of."""

    term: str
    text: str


@dataclass
class Example(Entry):
    """What is done, and the commands.

    Attributes:
        needs: What the tests do not have, without which it cannot be run; or None.
    """

    needs: str | None = None


@dataclass
class Page:
    """A manual page.

    Attributes:
        name: As man is asked for it.
        section: Section of the manual.
        summary: What it is, in half a sentence.
        synopsis: Command lines.
        description: Paragraphs.
        lists: Entries by heading.
        sections: Paragraphs by heading.
        examples: What is done, and the commands.
        see_also: Other pages, as name(section).
        command: Words of the command behind the program's name, or None for another program.
    """

    name: str
    section: int
    summary: str
    synopsis: list[str]
    description: str
    lists: dict[str, list[Entry]] = field(default_factory=dict)
    sections: dict[str, str] = field(default_factory=dict)
    examples: list[Example] = field(default_factory=list)
    see_also: list[str] = field(default_factory=list)
    command: str | None = None

    @property
    def path(self) -> str:
        """Where it is below the directory of all pages."""
        return f"man{self.section}/{self.name}.{self.section}"


def build_pages() -> list[Page]:
    """Return all pages."""
    prose = tomllib.loads((DOCS / "man" / "prose.toml").read_text())
    root = click.Context(cfsctl, info_name="cfsctl", help_option_names=["-h", "--help"])
    pages = [_page_of_command(root)]
    for name in cfsctl.list_commands(root):
        command = cfsctl.get_command(root, name)
        if command is not None and not command.hidden:
            context = click.Context(command, info_name=name, parent=root)
            pages.append(_page_of_command(context))
            if isinstance(command, click.Group):
                pages += _pages_of_group(context)
    pages += [_page_of_tool(name, section, usage) for name, (section, usage) in TOOLS.items()]
    pages += [
        Page(name, text["section"], "", text["synopsis"], "")
        for name, text in prose["pages"].items()
        if "section" in text  # a page about a format, which no program describes
    ]
    unknown = prose["pages"].keys() - {page.name for page in pages}
    if unknown:
        raise SystemExit(f"prose.toml describes what there is not: {', '.join(sorted(unknown))}")
    for page in pages:
        _add_prose(page, prose["pages"].get(page.name, {}))
    return pages


def _page_of_command(context: click.Context) -> Page:
    command = context.command
    help_text = _help(command)
    page = Page(
        name=_page_name(context),
        section=1,
        summary=_summary_of(command, help_text),
        synopsis=[_usage(context)],
        description=help_text,
        command=context.command_path.partition(" ")[2],
    )
    if isinstance(command, LazyGroup):
        page.synopsis = [f"{context.command_path} [OPTIONS] COMMAND [ARGS]..."]
        for title, commands in command.iter_groups(context):
            entries = [Entry(f"{page.name}-{name}(1)", f"{summary}.") for name, summary in commands]
            page.lists[f"COMMANDS: {title}".upper()] = entries
    for title, options in iter_option_sections(command, context):
        heading = "OPTIONS" if title == GENERAL else f"{title} options".upper()
        page.lists[heading] = option_entries(context, options)
    return page


def _page_name(context: click.Context) -> str:
    return context.command_path.replace(" ", "-")


def _pages_of_group(context: click.Context) -> Iterator[Page]:
    """Yield the pages of the commands of a group."""
    for name, command in subcommands(context):
        page = _page_of_command(click.Context(command, info_name=name, parent=context))
        page.see_also = [f"{_page_name(context)}(1)"]
        yield page


def _summary_of(command: click.Command, help_text: str) -> str:
    """Return the line that help texts have about the command, else its first sentence."""
    text = command.short_help or _summary(help_text)
    return text[:1].lower() + text[1:]


def subcommands(context: click.Context) -> Iterator[tuple[str, click.Command]]:
    """Yield the commands of a group that are meant to be seen."""
    group = context.command
    assert isinstance(group, click.Group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if command is not None and not command.hidden:
            yield name, command


def option_entries(context: click.Context, options: Iterable[click.Option]) -> list[Entry]:
    """Return some options of a command, and the variables that stand for them."""
    entries = []
    for parameter in options:
        record = parameter.get_help_record(context)
        if record is None or not parameter.help:
            raise SystemExit(f"{context.command_path}: {parameter.opts[0]} has no help text")
        term, text = record[0], re.sub(r"\s+", " ", parameter.help)
        if isinstance(parameter.envvar, str):
            text += f" Environment: {parameter.envvar}."
        entries.append(Entry(term, text))
    return entries


def _help(command: click.Command) -> str:
    return cleandoc(command.help or "").replace("\b\n", "")


def _summary(text: str) -> str:
    """Return the first sentence as the line of an index."""
    first = re.split(r"\.(\s|$)", " ".join(text.split("\n\n", maxsplit=1)[0].split()))[0]
    return first[:1].lower() + first[1:]


def _usage(context: click.Context, *, program: bool = True) -> str:
    path = context.command_path if program else context.info_name or ""
    return " ".join([path, *context.command.collect_usage_pieces(context)])


def _page_of_tool(name: str, section: int, usage: str) -> Page:
    """Return the page of a tool from its help text: a usage line, paragraphs, and lists below headings."""
    first, *paragraphs = usage.strip("\n").split("\n\n")
    page = Page(name, section, "", [first.removeprefix("Usage: ")], "")
    for paragraph in paragraphs:
        heading, *lines = paragraph.split("\n")
        if (lines and heading.endswith(":")) or (lines and lines[0].startswith("  ")):
            title = heading.split(";")[0].rstrip(":").upper()
            page.lists[title] = _parse_list(lines)
            if ";" in heading:
                page.sections[title] = heading.partition("; ")[2].rstrip(":").capitalize() + "."
        else:
            page.description = paragraph
    page.summary = _summary(page.description)
    return page


def _parse_list(lines: Iterable[str]) -> list[Entry]:
    """Return the entries of a list: terms by two blanks, then their text in a column of its own."""
    entries: list[Entry] = []
    for line in lines:
        if found := re.match(r"  (\S.*?)(?:  +|$)(.*)", line):
            entries.append(Entry(found[1], found[2]))
        else:
            entries[-1].text += f" {line.strip()}"
    return entries


def _add_prose(page: Page, prose: dict[str, Any]) -> None:
    page.summary = prose.get("summary", page.summary)
    if "description" in prose:
        page.description += "\n\n" + cleandoc(prose["description"])
    if "arguments" in prose:
        page.lists = {"ARGUMENTS": [Entry(*item) for item in prose["arguments"].items()], **page.lists}
    for heading, text in prose.get("sections", {}).items():
        page.sections[heading] = cleandoc(text)
    for heading, items in prose.get("lists", {}).items():
        page.lists[heading] = [Entry(term, cleandoc(text)) for term, text in items.items()]
    page.examples = [
        Example(example["text"], example["run"].strip("\n"), example.get("needs"))
        for example in prose.get("examples", ())
    ]
    if page.name.startswith("cfsctl-"):
        page.sections["GLOBAL OPTIONS"] = (
            "Options before the command say which repository is meant and how results are told; "
            "see cfsctl(1), which has the exit statuses as well."
        )
        page.see_also = ["cfsctl(1)", *page.see_also]
    page.see_also += prose.get("see_also", [])


# Rendering


def render(page: Page, date: str) -> str:
    """Return the source of a page, for any program that knows the man macros."""
    title = page.name.upper().replace("-", "\\-")
    lines = [
        '.\\" Written by tools/man_pages.py; change the help texts or docs/man/prose.toml instead.',
        f'.TH {title} {page.section} {date} "cfsctl {__version__}" "composefs repositories"',
        ".SH NAME",
        f"{escape(page.name)} \\- {escape(page.summary)}",
        ".SH SYNOPSIS",
        *_synopsis(page.synopsis),
        ".SH DESCRIPTION",
        *_paragraphs(page.description),
    ]
    for heading in dict.fromkeys([*page.lists, *page.sections]):
        lines.append(f'.SH "{escape(heading)}"')
        lines += _paragraphs(page.sections.get(heading, ""))
        lines += _entries(page.lists.get(heading, ()))
    if page.examples:
        lines.append(".SH EXAMPLES")
        for example in page.examples:
            lines += _example(example, is_first=example is page.examples[0])
    if page.see_also:
        lines.append(".SH SEE ALSO")
        last = len(page.see_also) - 1
        for index, name in enumerate(page.see_also):
            lines.append(_reference(name, "" if index == last else ","))
    return "\n".join(lines) + "\n"


def _synopsis(usages: Iterable[str]) -> Iterator[str]:
    for index, usage in enumerate(usages):
        if index:
            yield ".br"
        program, rest = re.match(r"((?:[a-z][a-z.-]* ?)*)(.*)", usage).groups()  # type: ignore[union-attr]  # all match
        if program:
            yield f".B {escape(program.strip())}"
        if rest:
            yield escape(rest)


def _paragraphs(text: str) -> Iterator[str]:
    for index, paragraph in enumerate(part for part in text.split("\n\n") if part):
        if index:
            yield ".PP"
        yield from _filled(paragraph)


def _entries(entries: Iterable[Entry]) -> Iterator[str]:
    for entry in entries:
        yield ".TP"
        if re.fullmatch(r"[a-z.-]+\(\d\)", entry.term):
            yield _reference(entry.term, "")
        else:
            yield f"\\fB{escape(entry.term)}\\fR"
        yield from _filled(entry.text)


def _example(example: Entry, *, is_first: bool) -> Iterator[str]:
    if not is_first:
        yield ".PP"
    yield from _filled(example.term)
    yield from (".PP", ".RS 4", ".nf")
    for line in example.text.split("\n"):
        yield _guard(escape(line))
    yield from (".fi", ".RE")


def _reference(name: str, behind: str) -> str:
    page, section = name.rstrip(")").split("(")
    return f".BR {escape(page)} ({section}){behind}"


def _filled(text: str) -> Iterator[str]:
    """Yield a paragraph in lines, each sentence beginning one."""
    for sentence in re.split(r"(?<=[.:;!?])\s+", " ".join(text.split())):
        for line in textwrap.wrap(sentence, _WIDTH, break_long_words=False, break_on_hyphens=False):
            yield _guard(escape(line))


def _guard(line: str) -> str:
    """Keep a line from being taken for a request."""
    return f"\\&{line}" if line[:1] in {".", "'"} else line


def escape(text: str) -> str:
    """Return text as it is written in a page."""
    return text.replace("\\", "\\e").replace("-", "\\-").replace('"', "\\(dq").replace("`", "\\(ga")


# Examples in help texts


def render_examples(pages: Iterable[Page]) -> str:
    """Return the source of the module that has the examples for the help of each command."""
    lines = [
        '"""Examples in help texts; written by tools/man_pages.py from docs/man/prose.toml."""',
        "",
        "from __future__ import annotations",
        "",
        "from typing import TYPE_CHECKING, Final",
        "",
        "if TYPE_CHECKING:",
        "    from collections.abc import Mapping",
        "",
        "EXAMPLES: Final[Mapping[str, tuple[str, ...]]] = {",
    ]
    for page in pages:
        if page.command is not None and page.examples:
            lines.append(f"    {json.dumps(page.command)}: (")
            texts: list[str] = []
            for example in page.examples:
                texts += (
                    ["", *_help_lines(example, page.command)] if texts else _help_lines(example, page.command)
                )
            lines += [f"        {_quote(text)}," for text in texts]
            lines.append("    ),")
    lines += ["}", '"""By the words of the command; the program itself is the empty text."""']
    return "\n".join(lines) + "\n"


def _quote(text: str) -> str:
    """Return a literal as the formatter writes it."""
    return repr(text) if '"' in text and "'" not in text else json.dumps(text, ensure_ascii=False)


def _help_lines(example: Example, command: str) -> Iterator[str]:
    """Yield what is done, and the lines with the command; lines that only prepare it are left out."""
    yield from textwrap.wrap(example.term, _WIDTH)
    lines = example.text.split("\n")
    is_single = not any(line.endswith("\\") or line.startswith(" ") for line in lines)
    own = [line for line in lines if f" {command} " in f"{line} "] if is_single else lines
    for line in own or lines:
        yield from _fold(f"  {line}")


def _fold(line: str) -> Iterator[str]:
    """Yield a command in lines that fit 80 columns, as one may type it."""
    parts = textwrap.wrap(
        line, _WIDTH, subsequent_indent="      ", break_long_words=False, break_on_hyphens=False
    )
    for number, part in enumerate(parts, 1):
        yield f"{part} \\" if number < len(parts) else part


def main() -> None:
    """Write all pages, and remove those of commands that are gone."""
    directory = Path(sys.argv[1]) if len(sys.argv) > 1 else DOCS / "man"
    if len(sys.argv) == 1:
        EXAMPLES.write_text(render_examples(build_pages()))
    date = tomllib.loads((DOCS / "man" / "prose.toml").read_text())["date"]
    for old in directory.glob("man?/*.?"):
        old.unlink()
    for page in build_pages():
        path = directory / page.path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(render(page, date))


if __name__ == "__main__":
    main()
