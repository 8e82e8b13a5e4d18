"""Pages as a browser shows them: to the eye, by keyboard, on paper, to a screen reader; and harmful names."""

from __future__ import annotations

import dataclasses
import itertools
import re
from typing import TYPE_CHECKING, Any, Final

import pytest

import cfsctl
from cfsctl.pages.blocks import NARROW, WIDE, iter_blocks
from tests.support.chromium import Browser, require_chromium

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from cfsctl.pages.blocks import Picture

pytestmark = pytest.mark.compat

EVIL: Final = (
    "</title></style></svg></table><script>window.hit = 1</script>"
    "<img src='http://evil.invalid/x' onerror='window.hit = 1'>"
    "\"'><svg onload='window.hit = 1'><a href='javascript:window.hit = 1'>{{ 7 * 7 }}\u202e\n"
    "<style>*{display:none}"
)
NAMED: Final = {"kind", "what", "role"}
"""Fields that templates compare with words of their own; nothing in them is from outside."""


def write(path: Path, size: int) -> None:
    """Write a file that no other has the content of."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes((f"{path.name} {size} ".encode() * (size // 8 + 1))[:size])


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> cfsctl.StoreReport:
    """Return a report that has something of everything."""
    place = tmp_path_factory.mktemp("pages")
    tree = place / "tree"
    for number in range(12):
        write(tree / "usr" / "lib" / f"part{number}" / "file", 10_000 * (number + 1))
        write(tree / "usr" / "share" / f"docs{number}" / "a" / "b", 7_000 * (number + 1))
    write(tree / "opt" / "app", 90_000)
    database = tree / "var" / "lib" / "dpkg" / "status"
    database.parent.mkdir(parents=True)
    database.write_text("Package: bash\nVersion: 1\nArchitecture: all\nStatus: install ok installed\n")
    with cfsctl.Repository.init(place / "repo", insecure=True) as repository:
        repository.create_image(tree, "web")
        write(tree / "opt" / "new", 60_000)
        database.write_text("Package: bash\nVersion: 2\nArchitecture: all\nStatus: install ok installed\n")
        repository.create_image(tree, "web", keep=2)
        write(tree / "opt" / "lost", 80_000)
        repository.create_image(tree, "lost")
        repository.remove_image("lost")
        return repository.report(made_s=1_700_000_000)


def draw(found: cfsctl.StoreReport | cfsctl.DiffReport, path: Path) -> str:
    """Write a page, and return its address."""
    path.write_bytes(b"".join(cfsctl.draw_report(found)))
    return path.as_uri()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Return a browser."""
    with Browser(require_chromium()) as found:
        yield found


@pytest.fixture
def shown(browser: Browser, report: cfsctl.StoreReport, tmp_path: Path) -> Browser:
    """Return the browser with the page of the report."""
    browser.show(1280)
    browser.open(draw(report, tmp_path / "page.html"))
    return browser


def test_what_is_shown(shown: Browser, report: cfsctl.StoreReport) -> None:
    text = shown.evaluate("document.body.innerText")
    for expected in ("What takes up space", "/usr/lib", "/opt/new", "web", "Freed by gc", "kept"):
        assert expected in text, expected
    assert shown.evaluate("document.title").endswith("what takes up space")
    assert shown.evaluate("document.documentElement.lang") == "en"
    assert len(shown.requests) == 1
    assert shown.messages == []
    shown.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")
    unfolded = shown.evaluate("document.body.innerText")
    assert re.search(r"bash all\s+~ changed\s+1\s+2\s", unfolded)
    assert report.histories


@pytest.mark.parametrize(("width", "picture"), [(1600, WIDE), (1280, WIDE), (400, NARROW)])
def test_treemap(shown: Browser, report: cfsctl.StoreReport, width: int, picture: Picture) -> None:
    shown.show(width)
    assert shown.evaluate("document.documentElement.scrollWidth") <= width
    visible = shown.evaluate(
        "[...document.querySelectorAll('.map')].filter(one => one.checkVisibility()).length"
    )
    assert visible == 1
    box = "(one => { const at = one.getBoundingClientRect(); return [at.x, at.y, at.width, at.height]; })"
    left, top, wide, high = shown.evaluate(f"{box}(document.querySelector('.map.{picture.name}'))")
    rects = shown.evaluate(
        f"[...document.querySelectorAll('.map.{picture.name} .block > rect:first-of-type')].map({box})"
    )
    sizes = [block.size_bytes for block in iter_blocks(report.space, picture)]
    assert sum(sizes) == report.stats.bytes
    assert len(rects) == len(sizes) > 10
    for (x, y, across, down), size in zip(rects, sizes, strict=True):
        assert across * down == pytest.approx(wide * high * size / sum(sizes), rel=0.03, abs=2)
        assert left - 0.5 <= x
        assert x + across <= left + wide + 0.5
        assert top - 0.5 <= y
        assert y + down <= top + high + 0.5


CONTRASTS = """
(() => {
  const parse = text => text.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => [r, g, b].map(one => one / 255)
    .map(one => one <= .03928 ? one / 12.92 : ((one + .055) / 1.055) ** 2.4)
    .reduce((sum, one, at) => sum + one * [.2126, .7152, .0722][at], 0);
  const ground = element => {
    for (let one = element; one; one = one.parentElement) {
      const found = parse(getComputedStyle(one).backgroundColor);
      if (found.length == 3 || found[3] > 0) return found;
    }
    return [255, 255, 255];
  };
  const found = [];
  for (const element of document.querySelectorAll('body *')) {
    if (![...element.childNodes].some(one => one.nodeType == 3 && one.data.trim())) continue;
    if (!element.checkVisibility() || element.closest('title, desc, style')) continue;
    const isPicture = element instanceof SVGElement;
    const style = getComputedStyle(element);
    const block = isPicture && getComputedStyle(element.parentElement.querySelector('rect'));
    const below = light(block ? parse(block.fill) : ground(element));
    const ink = light(parse(isPicture ? style.fill : style.color));
    const pair = [ink, below].sort((one, other) => other - one);
    found.push([(pair[0] + .05) / (pair[1] + .05), element.tagName, element.textContent.slice(0, 30)]);
  }
  return found;
})()
"""


@pytest.mark.parametrize(("scheme", "paper"), [("light", "rgb(255, 255, 255)"), ("dark", "rgb(19, 23, 28)")])
def test_colours(shown: Browser, scheme: str, paper: str) -> None:
    shown.show(1280, scheme=scheme)
    shown.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")
    assert shown.evaluate("getComputedStyle(document.body).backgroundColor") == paper
    found = shown.evaluate(CONTRASTS)
    assert len(found) > 100
    assert [one for one in found if one[0] < 4.5] == []
    # What a tone says is said by a label or a pattern as well.
    patterns = (
        "[...document.querySelectorAll('.map.wide .garbage .pattern')].map(one => getComputedStyle(one).fill)"
    )
    assert shown.evaluate(patterns) == ['url("#garbage-wide")']


def test_keyboard(shown: Browser) -> None:
    focused = (
        "(one => [one.tagName, one.getAttribute('href') || one.textContent.trim().slice(0, 12), "
        "getComputedStyle(one).outlineStyle])(document.activeElement)"
    )
    seen = []
    for _ in range(8):
        shown.press("Tab", 9)
        seen.append(shown.evaluate(focused))
    assert [one[1] for one in seen[:6]] == [
        "#content",
        "#space",
        "#refs",
        "#largest",
        "#history",
        "#collection",
    ]
    assert seen[6][0] == "SUMMARY"
    assert {one[2] for one in seen} == {"solid"}
    assert shown.evaluate(
        "[...document.querySelectorAll('nav a')].every(one => document.querySelector(one.hash))"
    )
    before = shown.evaluate("document.activeElement.parentElement.open")
    shown.press("Enter", 13)
    assert shown.evaluate("document.activeElement.parentElement.open") is not before


def test_print(shown: Browser) -> None:
    folded = "[...document.querySelectorAll('details:not([open]) td')].map(one => one.checkVisibility())"
    assert set(shown.evaluate(folded)) == {False}
    shown.show(780, media="print")
    assert shown.evaluate("document.querySelector('nav').checkVisibility()") is False
    narrow_only = "[...document.querySelectorAll('details:not([open]) td:first-of-type')]"
    assert all(shown.evaluate(f"{narrow_only}.map(one => one.checkVisibility())"))
    assert shown.evaluate("getComputedStyle(document.body).color") == "rgb(0, 0, 0)"
    pages = len(re.findall(rb"/Type\s*/Page\b", shown.print_pdf()))
    assert 2 <= pages < 30


def test_screen_reader(shown: Browser) -> None:
    nodes = shown.send("Accessibility.getFullAXTree")["nodes"]
    by_role: dict[str, list[str]] = {}
    for node in nodes:
        if not node.get("ignored"):
            role = node.get("role", {}).get("value", "")
            by_role.setdefault(role, []).append(node.get("name", {}).get("value", ""))
    assert len(by_role["image"]) == 1
    assert by_role["image"][0].startswith(
        "Space by directory Treemap: the area of each block is in proportion"
    )
    for role in ("table", "link", "heading", "columnheader", "rowheader", "region", "navigation"):
        assert by_role[role], role
        assert all(by_role[role]), role
    levels = shown.evaluate("[...document.querySelectorAll('h1,h2,h3,h4')].map(one => +one.tagName[1])")
    assert levels[0] == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))
    unscoped = "document.querySelectorAll('th:not([scope])').length"
    assert shown.evaluate(unscoped) == 0
    ids = shown.evaluate("[...document.querySelectorAll('[id]')].map(one => one.id)")
    assert len(ids) == len(set(ids))


def poison(value: Any, field: str = "") -> Any:  # noqa: ANN401 - anything that reports have
    """Return a value in which every text has markup, as somebody might write it."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        changes = {one.name: poison(getattr(value, one.name), one.name) for one in dataclasses.fields(value)}
        return dataclasses.replace(value, **changes)
    if hasattr(value, "_asdict"):
        return value._replace(**{name: poison(one, name) for name, one in value._asdict().items()})
    if isinstance(value, tuple | list):
        return type(value)(poison(one, field) for one in value)
    if value and field not in NAMED:
        if isinstance(value, str):
            return value + EVIL
        if type(value) is bytes:
            return value + EVIL.encode() + b"\xff"
    return value


TAGS: Final = """
[...document.querySelectorAll('*')].filter(one => !one.closest('svg.block')).map(one => one.tagName).join(' ')
"""


def check_poisoned(browser: Browser, clean: str, poisoned: str) -> None:
    """Check that names with markup make the same elements as others, and do nothing."""
    browser.open(clean)
    tags = browser.evaluate(TAGS)
    browser.open(poisoned)
    assert browser.evaluate(TAGS) == tags
    assert browser.evaluate("window.hit === undefined")
    assert browser.evaluate("document.scripts.length") == 0
    strange = "img,iframe,object,embed,link,form,base,script,foreignObject,animate,set,use,image"
    assert browser.evaluate(f"document.querySelectorAll('{strange}').length") == 0
    attributes = browser.evaluate(
        "[...document.querySelectorAll('*')].flatMap(one => [...one.attributes].map(at => at.name))"
    )
    assert not [
        name for name in attributes if name.startswith("on") or name in {"style", "src", "xlink:href"}
    ]
    links = browser.evaluate("[...document.querySelectorAll('[href]')].map(one => one.getAttribute('href'))")
    assert links
    assert all(link.startswith("#") for link in links)
    assert browser.evaluate("getComputedStyle(document.body).display") == "block"
    assert [url for url in browser.requests if not url.startswith("file:///")] == []
    assert len(browser.requests) == 1
    assert browser.messages == []
    assert "<script>window.hit" in browser.evaluate("document.body.textContent")


def test_names_with_markup_do_nothing(browser: Browser, report: cfsctl.StoreReport, tmp_path: Path) -> None:
    browser.show(1280)
    evil = poison(report)
    assert "<script>" in evil.histories[0].name
    check_poisoned(browser, draw(report, tmp_path / "clean.html"), draw(evil, tmp_path / "evil.html"))


def test_the_same_of_differences(browser: Browser, report: cfsctl.StoreReport, tmp_path: Path) -> None:
    changes = report.histories[0].versions[0].changes
    assert changes is not None
    clean = cfsctl.DiffReport(old="a", new="b", changes=changes, made_s=1)
    evil = poison(clean)
    browser.show(1280)
    check_poisoned(browser, draw(clean, tmp_path / "clean.html"), draw(evil, tmp_path / "evil.html"))
    browser.show(400)
    assert browser.evaluate("document.documentElement.scrollWidth") <= 400


def test_the_policy_stops_what_would_slip_through(
    browser: Browser, report: cfsctl.StoreReport, tmp_path: Path
) -> None:
    path = tmp_path / "page.html"
    draw(report, path)
    injected = (
        "<script>window.hit = 1</script><img src='x.png' onerror='window.hit = 1'>"
        "<p style='color:red' id=p>x</p>"
    )
    path.write_text(path.read_text().replace("</main>", f"{injected}</main>"))
    browser.open(path.as_uri())
    assert browser.evaluate("window.hit === undefined")
    assert browser.evaluate("getComputedStyle(document.getElementById('p')).color") != "rgb(255, 0, 0)"
    assert len(browser.messages) >= 3
