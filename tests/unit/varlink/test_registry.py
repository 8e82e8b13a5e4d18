"""Who may use which handle."""

from __future__ import annotations

from cfsctl.varlink.registry import MAX_HANDLES, MAX_ORPHANS, ORPHAN_S, HandleRecord, Owner, Registry

RECORD = HandleRecord("/repository", 1, 2)


class Clock:
    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def make_owner(uid: int = 0, *, is_gone: bool = False) -> Owner:
    return Owner(uid, lambda: is_gone)


def test_numbers_are_never_used_again() -> None:
    registry, owner = Registry(), make_owner()
    assert registry.open(owner, RECORD) == 1
    assert registry.close(owner, 1)
    assert not registry.close(owner, 1)
    assert registry.open(owner, RECORD) == 2
    assert registry.find(owner, 1) is None
    assert registry.find(owner, 2) == RECORD


def test_a_handle_is_its_owners_until_that_one_has_ended() -> None:
    registry, owner, other = Registry(), make_owner(), make_owner()
    handle = registry.open(owner, RECORD)
    assert handle is not None
    assert registry.find(other, handle) is None
    assert not registry.close(other, handle)
    registry.end(owner)
    assert registry.find(other, handle) == RECORD
    assert registry.find(owner, handle) is None


def test_a_client_that_has_gone_counts_as_ended() -> None:
    registry, gone = Registry(), make_owner(is_gone=True)
    handle = registry.open(gone, RECORD)
    assert handle is not None
    assert registry.find(make_owner(), handle) == RECORD


def test_other_users_never_get_a_handle() -> None:
    registry, owner = Registry(), make_owner(1000)
    handle = registry.open(owner, RECORD)
    assert handle is not None
    registry.end(owner)
    for uid in (0, 1001):
        assert registry.find(make_owner(uid), handle) is None
        assert not registry.close(make_owner(uid), handle)
    assert registry.close(make_owner(1000), handle)


def test_records_do_not_pile_up() -> None:
    clock = Clock()
    registry = Registry(clock)
    last = None
    for _ in range(MAX_ORPHANS + 10):
        owner = make_owner()
        last = registry.open(owner, RECORD)
        registry.end(owner)
    assert len(registry) == MAX_ORPHANS
    assert last is not None
    assert registry.find(make_owner(), last) == RECORD
    assert registry.find(make_owner(), 1) is None


def test_records_go_after_some_time() -> None:
    clock = Clock()
    registry, owner = Registry(clock), make_owner()
    registry.open(owner, RECORD)
    registry.end(owner)
    clock.now_s = ORPHAN_S + 1
    registry.end(make_owner())
    assert len(registry) == 0


def test_nobody_has_any_number_of_handles() -> None:
    registry, owner = Registry(), make_owner()
    for _ in range(MAX_HANDLES):
        assert registry.open(owner, RECORD) is not None
    assert registry.open(owner, RECORD) is None
    assert registry.open(make_owner(), RECORD) is not None
