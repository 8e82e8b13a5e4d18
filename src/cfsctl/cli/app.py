"""The cfsctl program: global options and the table of commands."""

from __future__ import annotations

import os
from importlib import import_module
from typing import TYPE_CHECKING

import click

from cfsctl.cli.catalog import PROGRAM
from cfsctl.cli.completers import complete_directories
from cfsctl.cli.configuration import load_configuration
from cfsctl.cli.context import Session
from cfsctl.cli.errors import STYLE, report_usage, run_tool
from cfsctl.cli.help import CONTEXT_SETTINGS, OUTPUT, section
from cfsctl.cli.interruption import limit_time
from cfsctl.cli.lazy import LazyGroup, MissingCommandError, UnknownCommandError
from cfsctl.cli.location import Place, choose_place
from cfsctl.cli.loudness import LEVELS, Count, choose_level, listen
from cfsctl.cli.options.common import (
    OnceOption,
    check_writable_fd,
    erofs_version_option,
    keep_tracebacks,
    parse_duration,
    tell_as_json,
)
from cfsctl.cli.output import Level, tell_block
from cfsctl.cli.progress import Progress, ProgressMode
from cfsctl.errors import ExitCode

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cfsctl.erofs.format import FormatVersion

COMMANDS = {
    "boot": "boot.group",
    "cat": "image.cat",
    "compute-id": "image.compute_id",
    "compute-karg": "image.compute_karg",
    "copy": "repository.copy",
    "create-dumpfile": "image.create_dumpfile",
    "create-image": "image.create_image",
    "diff": "inspect.diff",
    "dump-files": "image.dump_files",
    "explain-digest": "inspect.explain_digest",
    "extract": "inspect.extract",
    "fetch": "repository.fetch",
    "fsck": "repository.fsck",
    "doctor": "program.doctor",
    "gc": "repository.gc",
    "help": "program.help",
    "image": "image.group",
    "image-objects": "repository.image_objects",
    "images": "repository.images",
    "import-image": "image.import_image",
    "init": "repository.init",
    "list-images": "repository.images",
    "ls": "inspect.ls",
    "mount": "image.mount",
    "mounts": "repository.mounts",
    "oci": "oci.group",
    "ostree": "ostree.group",
    "remote": "remote.group",
    "show": "inspect.show",
    "prune": "repository.prune",
    "rename": "image.rename",
    "report": "repository.report",
    "stats": "repository.stats",
    "tag": "image.tag",
    "transaction": "repository.transaction",
    "umount": "image.umount",
    "varlink": "service.varlink",
    "untag": "image.untag",
}
"""Name of each command and the module below `cfsctl.cli.commands` whose `command` it is."""

HIDDEN_TOOLS = {
    "mkcomposefs": "cfsctl.cli.tools.mkcomposefs",
    "composefs-info": "cfsctl.cli.tools.composefs_info",
}
"""Programs that are also reachable behind global options, which they ignore."""


def main(arguments: Sequence[str]) -> int:
    """Run cfsctl with these arguments (without the program's name).

    Returns:
        The exit status.
    """
    STYLE.reset()
    if not arguments and not os.environ.keys().isdisjoint(("LISTEN_PID", "SYSTEMD_VARLINK_LISTEN")):
        arguments = _find_activated_command()
    try:
        # Not by click's own main, which has other exit codes for interrupts and closed pipes.
        with cfsctl.make_context("cfsctl", list(arguments)) as context:
            result = cfsctl.invoke(context)
    except click.exceptions.Exit as ended:
        return ended.exit_code
    except click.UsageError as error:
        return _report_usage(error, arguments)
    except click.ClickException as error:
        return report_usage(error.format_message())
    except click.Abort:
        return 130
    return result if isinstance(result, int) else 0


def _find_activated_command() -> Sequence[str]:
    """Return the arguments of a program that was started without any: to serve, if it was given sockets."""
    from cfsctl.varlink.sockets import is_activated, is_asked_for_stdio  # only what systemd starts

    return ["varlink"] if is_activated(os.environ) or is_asked_for_stdio(os.environ) else []


def _report_usage(error: click.UsageError, arguments: Sequence[str]) -> int:
    """Report a usage error, with the usage and possible corrections."""
    STYLE.as_json = STYLE.as_json or "--json" in arguments  # which is not read behind an unknown option
    if isinstance(error, MissingCommandError) and not STYLE.as_json and error.ctx is not None:
        tell_block(error.ctx.get_help())
        return ExitCode.USAGE
    usage, hint = "", None
    if error.ctx is not None:
        usage = error.ctx.get_usage()
        hint = f"try '{error.ctx.command_path} --help'"
    message, possibilities = error.format_message(), list(getattr(error, "possibilities", None) or ())
    if isinstance(error, click.NoSuchOption):
        from cfsctl.cli.suggestions import explain_misplaced_option  # only for mistakes

        message = f"no such option: {error.option_name}"
        if found := explain_misplaced_option(error, arguments):
            return report_usage(found[0], usage, found[1])
    if possibilities:
        message = error.message if isinstance(error, UnknownCommandError) else message
        hint = f"did you mean {' or '.join(possibilities[:2])}?"
    return report_usage(message, usage, hint)


def _run_tool(module: str, arguments: Sequence[str]) -> int:
    return run_tool(import_module(module).main, list(arguments))


def _tool_command(name: str, module: str) -> click.Command:
    """Return a hidden command that hands every argument to the tool."""

    class Tool(click.Command):
        """A program with a help text of its own."""

        def get_help(self, ctx: click.Context) -> str:  # noqa: ARG002 - as click calls it
            usage: str = import_module(module).USAGE
            return usage.rstrip()

    @click.command(
        name,
        cls=Tool,
        hidden=True,
        add_help_option=False,
        context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False},
    )
    @click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
    def tool(arguments: tuple[str, ...]) -> int:
        return _run_tool(module, arguments)

    return tool


@click.group(
    cls=LazyGroup,
    package="cfsctl.cli.commands",
    modules=COMMANDS,
    catalog=PROGRAM,
    context_settings=CONTEXT_SETTINGS,
)
@section(
    "Repository",
    click.option(
        "--repo",
        metavar="PATH",
        cls=OnceOption,
        shell_complete=complete_directories,
        help="Path of the repository.",
    ),
    click.option("--user", is_flag=True, help="Use the user's repository, ~/.var/lib/composefs."),
    click.option("--system", is_flag=True, help="Use the system's repository, /sysroot/composefs."),
    click.option(
        "--hash",
        "hash_name",
        type=click.Choice(["sha256", "sha512"]),
        envvar="CFSCTL_HASH",
        help="Hash that the repository must use; without a repository, the hash to compute with.",
    ),
    erofs_version_option(
        "Image format for this command; overrides the repository's.", envvar="CFSCTL_EROFS_VERSION"
    ),
    click.option(
        "--insecure", is_flag=True, hidden=True, envvar="CFSCTL_INSECURE", help="Do not require fs-verity."
    ),
    click.option(
        "--require-verity",
        is_flag=True,
        envvar="CFSCTL_REQUIRE_VERITY",
        help="Fail unless the repository enforces fs-verity.",
    ),
    click.option(
        "--no-upgrade",
        is_flag=True,
        envvar="CFSCTL_NO_UPGRADE",
        help="Do not add meta.json to a repository in the old format.",
    ),
    click.option(
        "--no-repo",
        is_flag=True,
        envvar="CFSCTL_NO_REPO",
        help="Do not look for a repository (compute-id, create-dumpfile).",
    ),
)
@section(
    "Time and durability",
    click.option(
        "--timeout",
        metavar="DURATION",
        envvar="CFSCTL_TIMEOUT",
        callback=parse_duration,
        help="End the command after this time with exit status 124; what it has stored so far is kept. "
        "Durations are numbers with s, m, h, d or w: 30, 90s, 5m. By default, there is no limit.",
    ),
    click.option(
        "--lock-timeout",
        metavar="SECONDS",
        envvar="CFSCTL_LOCK_TIMEOUT",
        callback=parse_duration,
        help="Fail with exit status 11 if another process holds the lock for longer than this; 0 means do "
        "not wait. By default, wait without a limit.",
    ),
    click.option(
        "--fsync",
        type=click.Choice(["per-object", "barrier", "none"]),
        default="barrier",
        envvar="CFSCTL_FSYNC",
        help="Durability: sync once before refs are updated (barrier, the default), also after every object "
        "(per-object), or never (none).",
    ),
)
@section(
    OUTPUT,
    click.option(
        "--json",
        "as_json",
        is_flag=True,
        is_eager=True,
        envvar="CFSCTL_JSON",
        callback=tell_as_json,
        help="Print results and errors as JSON.",
    ),
    click.option(
        "-q",
        "--quiet",
        is_flag=True,
        envvar="CFSCTL_QUIET",
        help="Print only errors; no messages and no progress.",
    ),
    click.option(
        "--progress",
        type=click.Choice(["auto", "plain", "json", "none"]),
        default="auto",
        envvar="CFSCTL_PROGRESS",
        help="Progress on standard error: bars on a terminal, otherwise a line every five seconds, and "
        "nothing with --json (auto, the default); always lines (plain); one JSON object per event and line "
        "(json); or nothing (none).",
    ),
    click.option(
        "--progress-fd",
        metavar="N",
        type=click.IntRange(min=0),
        callback=check_writable_fd,
        envvar="CFSCTL_PROGRESS_FD",
        help="Also write each event as a line of JSON to this open file descriptor.",
    ),
    click.option(
        "-v",
        "--verbose",
        count=True,
        type=Count(),
        envvar="CFSCTL_VERBOSE",
        help="Print more: which repository is used, and its settings (-v); each request to a server, and its "
        "response (-vv); their header fields, without secrets (-vvv). With --version, also print what this "
        "program runs on.",
    ),
    click.option(
        "--log-level",
        type=click.Choice(LEVELS),
        envvar="CFSCTL_LOG_LEVEL",
        help="Print messages on standard error up to this level; -q is error, -v info, -vv debug and -vvv "
        "trace. By default, notice.",
    ),
    click.option(
        "--log-time",
        is_flag=True,
        envvar="CFSCTL_LOG_TIME",
        help="Begin each line on standard error with the time.",
    ),
    click.option(
        "--debug",
        is_flag=True,
        is_eager=True,
        expose_value=False,
        callback=keep_tracebacks,
        help="Print a traceback with each error.",
    ),
    click.option(
        "--config",
        metavar="FILE",
        is_eager=True,
        expose_value=False,
        envvar="CFSCTL_CONFIG",
        callback=load_configuration,
        help="Read defaults for options from this file only; '' reads none. By default, they are read from "
        "/etc/cfsctl/config.toml and ~/.config/cfsctl/config.toml.",
    ),
    click.option("-V", "--version", is_flag=True, help="Print the version and exit."),
)
@click.pass_context
def cfsctl(
    context: click.Context,
    *,
    repo: str | None,
    user: bool,
    system: bool,
    hash_name: str | None,
    erofs_version: FormatVersion | None,
    insecure: bool,
    require_verity: bool,
    no_upgrade: bool,
    no_repo: bool,
    timeout: float | None,
    lock_timeout: float | None,
    as_json: bool,
    quiet: bool,
    verbose: int,
    log_level: str | None,
    log_time: bool,
    version: bool,
    progress: str,
    progress_fd: int | None,
    fsync: str,
) -> None:
    """Manage composefs repositories.

    A repository stores the content of each file once, and each tree as a small image that the kernel mounts.

    Without --repo, --user or --system, root uses the system's repository and other users their own. Each
    global option can also be set in the environment, for example CFSCTL_REPO for --repo; flags are set with
    1 or 0. The command line overrides the environment, and both override the configuration files.
    """
    if version:
        _print_version(is_verbose=verbose > 0, as_json=as_json)
        context.exit()
    if timeout is not None:
        limit_time(timeout)
    level = choose_level(context, quiet=quiet, verbose=verbose, log_level=log_level)
    listen(level, with_time=log_time)
    place = _find_place(context, Place(repo, user=user, system=system))
    mode = ProgressMode.NONE if quiet and level is Level.ERROR else ProgressMode(progress)
    watcher = Progress(mode, progress_fd, level)
    context.call_on_close(watcher.close)
    context.obj = Session(
        repo=place.repo,
        user=place.user,
        system=place.system,
        hash_name=hash_name,
        format_version=erofs_version,
        insecure=insecure,
        require_verity=require_verity,
        no_upgrade=no_upgrade,
        no_repo=no_repo,
        lock_timeout_s=lock_timeout,
        as_json=as_json,
        progress=watcher,
        verbose=level >= Level.INFO,
        fsync=fsync,
    )


def _print_version(*, is_verbose: bool, as_json: bool) -> None:
    from cfsctl.cli.version import print_version  # most commands do something else

    print_version(is_verbose=is_verbose, as_json=as_json)


def _find_place(context: click.Context, found: Place) -> Place:
    """Return where the repository is; what files say comes after the environment."""
    is_given = {
        name: context.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE
        for name in ("repo", "user", "system")
    }
    given = Place(
        found.repo if is_given["repo"] else None,
        user=found.user and is_given["user"],
        system=found.system and is_given["system"],
    )
    configured = Place(
        None if is_given["repo"] else found.repo,
        user=found.user and not is_given["user"],
        system=found.system and not is_given["system"],
    )
    return choose_place(given, configured)


for _name, _module in HIDDEN_TOOLS.items():
    cfsctl.add_command(_tool_command(_name, _module))
