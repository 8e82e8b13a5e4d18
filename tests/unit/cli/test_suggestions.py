"""The table of other tools' commands fits the commands that there are."""

from __future__ import annotations

import click
import pytest

from cfsctl.cli import app, suggestions


def find(path: str) -> bool:
    command: click.Command | None = app.cfsctl
    context = click.Context(app.cfsctl)
    for word in path.split():
        if word.startswith("-"):
            break
        if not isinstance(command, click.Group) or word not in command.list_commands(context):
            return False
        command = command.get_command(context, word)
    return True


@pytest.mark.parametrize("word", suggestions._WORDS)
def test_words_are_no_commands_and_lead_to_some(word: str) -> None:
    assert word not in app.cfsctl.list_commands(click.Context(app.cfsctl))
    for path in suggestions._WORDS[word]:
        assert find(path), path


def test_what_does_the_job_comes_before_what_has_the_name() -> None:
    context = click.Context(app.cfsctl, info_name="cfsctl")
    assert suggestions.suggest_commands("list", context)[:2] == ["'cfsctl images'", "'cfsctl ostree images'"]
    assert suggestions.suggest_commands("push", context) == ["'cfsctl oci push'"]
    assert suggestions.suggest_commands("imgaes", context)[0] == "images"
