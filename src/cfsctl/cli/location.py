"""Find the location of the repository from the command line or the environment."""

from __future__ import annotations

import os
from typing import NamedTuple

import click


class Place(NamedTuple):
    """One of three ways to say it, or none.

    Attributes:
        repo: Path of the repository.
        user: That of the user.
        system: That of the system.
    """

    repo: str | None
    user: bool
    system: bool


NOWHERE = Place(None, user=False, system=False)


def choose_place(given: Place, configured: Place = NOWHERE) -> Place:
    """Return the place that the command line names; if it names none, the environment, or a file.

    Args:
        given: What the command line says.
        configured: What configuration files say.

    Raises:
        click.UsageError: Several at once, or a path that is empty.
    """
    if given.repo == "":
        raise click.UsageError("--repo: expected a path, found nothing")
    if _count(given) > 1:
        raise click.UsageError("--repo, --user and --system cannot be used together")
    if _count(given):
        return given
    place = Place(os.environ.get("CFSCTL_REPO") or None, _flag("CFSCTL_USER"), _flag("CFSCTL_SYSTEM"))
    if _count(place) > 1:
        raise click.UsageError("CFSCTL_REPO, CFSCTL_USER and CFSCTL_SYSTEM cannot be used together")
    if _count(place):
        return place
    if _count(configured) > 1:
        raise click.UsageError("repo, user and system in a configuration file cannot be used together")
    return configured


def _count(place: Place) -> int:
    return (place.repo is not None) + place.user + place.system


def _flag(variable: str) -> bool:
    text = os.environ.get(variable)
    try:
        return bool(text) and bool(click.BOOL.convert(text, None, None))
    except click.BadParameter as error:
        raise click.UsageError(f"{variable}: {error.message}") from error
