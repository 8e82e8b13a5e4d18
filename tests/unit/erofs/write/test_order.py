"""The order of inodes, and of entries in a directory."""

from __future__ import annotations

from cfsctl.erofs.write.attribute_sets import filter_bit
from cfsctl.erofs.write.order import TreeListing, find_canonical, order_breadth_first, order_depth_first
from cfsctl.tree.model import Directory, Fifo, Leaf


def directory(**entries: Leaf | Directory) -> Directory:
    made = Directory(0o755)
    made.entries.update({name.encode(): entry for name, entry in entries.items()})
    return made


LINKED, PLAIN, LAST = Fifo(1), Fifo(2), Fifo(3)
DEEP = directory(y=LINKED)
A = directory(x=LINKED, deep=DEEP)
B = directory(w=PLAIN)
ROOT = directory(z=LINKED, a=A, b=B, zz=LAST)


def test_breadth_first_numbers_a_link_where_it_comes_first_depth_first() -> None:
    tree = TreeListing(ROOT, ROOT.entries)
    canonical = find_canonical(tree)
    assert canonical == {LINKED: (DEEP, b"y")}
    order = order_breadth_first(tree, canonical)
    assert order.nodes == [ROOT, A, B, LAST, DEEP, PLAIN, LINKED]
    assert order.links == {6: 3}
    assert order.plans[0].with_dots() == ([b".", b"..", b"a", b"b", b"z", b"zz"], [0, 0, 1, 2, 6, 3])
    assert order.plans[1].with_dots() == ([b".", b"..", b"deep", b"x"], [1, 0, 4, 6])
    assert [plan.nlink for plan in order.plans.values()] == [4, 3, 2, 2]


def test_depth_first_numbers_a_link_where_it_is_met() -> None:
    order = order_depth_first(TreeListing(ROOT, ROOT.entries))
    assert order.nodes == [ROOT, A, DEEP, LINKED, B, PLAIN, LAST]
    assert order.links == {3: 3}
    assert order.plans[2].with_dots() == ([b".", b"..", b"y"], [2, 1, 3])


def test_names_may_come_before_the_dots() -> None:
    root = directory(**{"!": PLAIN, "-": LAST, ".!": LINKED, "...": Fifo(4)})
    plan = order_breadth_first(TreeListing(root, root.entries), {}).plans[0]
    assert plan.with_dots() == ([b"!", b"-", b".", b".!", b"..", b"..."], [1, 2, 0, 3, 0, 4])
    assert not plan.dots_in_front


def test_bits_of_the_name_filter() -> None:
    assert filter_bit(b"k", 1) == 1 << 14
    assert filter_bit(b"overlay.opaque", 4) == 1 << 20
    assert filter_bit(b"overlay.metacopy", 4) | filter_bit(b"overlay.redirect", 4) == 1 << 17 | 1 << 31
