"""Messages for users who move a tag that a pull has set with requirements."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cfsctl.progress import Message

if TYPE_CHECKING:
    from cfsctl.digest import Checksum
    from cfsctl.progress import Reporter
    from cfsctl.repository import Repository


def warn_of_demand(repository: Repository, tag: str, commit: Checksum | None, report: Reporter) -> None:
    """Report if a commit does not meet the requirements of the tag that will be set to it.

    The user has named both, so the tag is moved; the requirement stays for the next pull.

    Args:
        repository: Where the tag is.
        tag: The tag.
        commit: The commit, or None for one that is only being made.
        report: Called with the message.
    """
    from cfsctl.errors import CfsError
    from cfsctl.ostree.store.partial_tags import find_part_tag
    from cfsctl.ostree.store.refs import find_tag, open_commit

    if find_tag(repository, tag) is None and find_part_tag(repository, tag) is None:
        return
    from cfsctl.ostree.trust.tags import find_unmet  # most tags are new

    try:
        content = None if commit is None else open_commit(repository, commit).commit
    except CfsError:
        return  # The commit is damaged, which is reported on use.
    unmet = find_unmet(repository, tag, commit, content)
    if unmet is not None:
        report(Message(f"{unmet}; the tag is moved anyway, and the next pull must meet this requirement"))
