"""``cfsctl fetch``."""

from __future__ import annotations

import click

from cfsctl.cli.context import Session, pass_session
from cfsctl.cli.help import Command
from cfsctl.cli.options.common import TEXT, json_option
from cfsctl.cli.options.http import ConnectionArguments, server_options
from cfsctl.cli.options.keeping import keep_option
from cfsctl.cli.output import print_document, print_lines
from cfsctl.digest import qualified


@click.command("fetch", cls=Command)
@click.argument("url", type=TEXT)
@click.argument("name", type=TEXT)
@click.option("--as", "ref", metavar="REF", help="Ref to set; for an OCI image a tag.")
@keep_option
@server_options
@json_option()
@pass_session
def command(
    session: Session,
    *,
    url: str,
    name: str,
    ref: str | None,
    keep: int | None,
    as_json: bool,
    connecting: ConnectionArguments,
) -> None:
    """Fetch the stream NAME from the composefs repository at URL, with everything it needs.

    A web server at URL has the files of the repository. It sends a symbolic link below streams/ as the file
    that it leads to, or as its target with the content type text/x-symlink-target. NAME is a content
    identifier, such as oci-manifest-sha256:..., or refs/REF; the tag TAG of an OCI image is refs/oci/TAG.
    Everything is verified before it gets a name. The default of --as is REF; without one, the next gc
    removes the stream.
    """
    from cfsctl.cli.options.http import with_credentials

    options = connecting.source_options(url)
    with session.open() as repository:
        fetched = repository.fetch(
            with_credentials(url, connecting.auth_file),
            name,
            ref,
            options,
            keep=keep,
            progress=session.progress,
        )
    if as_json:
        print_document(
            {
                "name": fetched.name,
                "content": f"sha256:{fetched.content}",
                "stream": qualified(fetched.stream_id),
                "ref": fetched.ref,
                "fetched_objects": fetched.counts.copied,
                "fetched_bytes": fetched.counts.copied_bytes,
                "present_objects": fetched.counts.present,
            }
        )
        return
    print_lines((f"content sha256:{fetched.content}", f"verity {fetched.stream_id.hex()}"))
