"""The commands of each group, under headings, with what each does in a line that fits 80 columns."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

    Catalog = Mapping[str, Mapping[str, str]]

PROGRAM: Final[Catalog] = {
    "Images": {
        "create-image": "Store a directory and create an image of it",
        "import-image": "Store an image from standard input",
        "images": "List the images that have a name",
        "tag": "Give an image a name",
        "untag": "Remove a name of an image",
        "rename": "Change a name of an image",
        "image": "Name images, list earlier images of a name, go back",
        "mount": "Mount an image",
        "umount": "Unmount an image",
        "mounts": "List what is mounted from the repository",
        "image-objects": "List the objects that an image needs",
        "dump-files": "Print files of an image as dump lines",
        "compute-id": "Print the ID that a directory's image would have",
        "compute-karg": "Print the kernel argument that boots an image",
        "create-dumpfile": "Print a directory as a composefs dump",
    },
    "OSTree commits and OCI images": {
        "ostree": "Pull, name, inspect, mount and export OSTree commits",
        "oci": "Pull, build, push, name, inspect and mount OCI images",
        "remote": "Configure names and keys of OSTree repositories",
    },
    "Repository": {
        "init": "Create a repository",
        "gc": "Remove every object that nothing needs",
        "prune": "Remove old tags and earlier targets",
        "fsck": "Check that the repository is complete and undamaged",
        "stats": "Print the size of the repository and of each name",
        "report": "Write a page that shows what takes up space",
        "copy": "Copy an image, commit or stream to another repository",
        "fetch": "Fetch a stream from a repository on a web server",
        "cat": "Write the content of a stream to standard output",
        "transaction": "Delay garbage collection while a program runs",
    },
    "Booting": {
        "boot": "Install, list and remove what this machine boots",
    },
    "Serving other programs": {
        "varlink": "Serve the varlink interfaces on a socket",
    },
    "Looking into trees": {
        "ls": "List a directory of an image or commit",
        "show": "Print a file of an image or commit",
        "extract": "Copy files out of an image or commit",
        "diff": "Compare two trees",
        "explain-digest": "Find the options that give an image ID",
    },
    "Help": {
        "doctor": "Report what this machine can do, and what is missing",
        "help": "Print the help of a command",
    },
}
"""All commands of cfsctl."""

REMOTE: Final[Catalog] = {
    "Remotes": {
        "add": "Configure a remote",
        "list": "List the configured remotes and their URLs",
        "show": "Print the configuration of a remote, and its keys",
        "remove": "Remove a remote and its keys",
    },
}
"""All commands of ``cfsctl remote``."""

OSTREE: Final[Catalog] = {
    "Getting commits": {
        "pull": "Pull commits from a server",
        "pull-local": "Pull commits from a repository on this machine",
        "apply-delta": "Store the commit of a static delta in a file",
        "list-refs": "List the refs of a repository",
    },
    "Stored commits": {
        "images": "List tags and their commits",
        "inspect": "Print the fields of a commit",
        "log": "Print a commit and its ancestors",
        "tag": "Give a commit a name",
        "untag": "Remove a name",
        "rename": "Change a name",
        "history": "List the current and earlier commits of a name",
        "rollback": "Go back to an earlier commit of a name",
        "verify": "Verify the stored signatures of a commit",
    },
    "Trees": {
        "mount": "Mount a commit",
        "dump": "Print the tree of a commit as a composefs dump",
        "compute-id": "Print the ID of a commit's image",
    },
    "Creating and exporting commits": {
        "commit": "Create a commit from an image",
        "export": "Write a commit to an OSTree repository",
    },
}
"""All commands of ``cfsctl ostree``."""

OCI: Final[Catalog] = {
    "Getting and sending images": {
        "pull": "Pull an image from a registry, archive or directory",
        "push": "Copy a stored image to a registry or an archive",
        "delta": "Make a delta from one stored image to another",
        "fetch": "Fetch an image from a repository on a web server",
        "copy": "Copy an image from another repository",
        "build": "Build an image of a tree, alone or on another image",
        "import-layer": "Store an uncompressed layer from standard input",
    },
    "Stored images": {
        "images": "List the images that have a tag",
        "inspect": "Print manifest, config and referrers of an image",
        "tag": "Give an image a name",
        "untag": "Remove a name",
        "rename": "Change a name",
        "history": "List the current and earlier images of a name",
        "rollback": "Go back to an earlier image of a name",
        "layer": "Write a layer to standard output",
        "fsck": "Check the repository and all its OCI images",
    },
    "Trees": {
        "mount": "Mount an image",
        "dump": "Print the tree of an image as a composefs dump",
        "compute-id": "Print the ID of an image's file system image",
        "linked-erofs-images": "List all file system images of an image",
    },
    "Booting": {
        "prepare-boot": "Install a boot entry for an image",
    },
    "Serving other programs": {
        "varlink": "Serve the varlink interfaces on a socket",
    },
}
"""All commands of ``cfsctl oci``."""

BOOT: Final[Catalog] = {
    "Deployments": {
        "prepare": "Install a boot entry for an image",
        "list": "List what can be booted",
        "remove": "Remove the boot entries of an image",
    },
}
"""All commands of ``cfsctl boot``."""

IMAGE: Final[Catalog] = {
    "Names": {
        "tag": "Give an image a name",
        "untag": "Remove a name",
        "rename": "Change a name",
    },
    "Earlier images": {
        "history": "List the current and earlier images of a name",
        "rollback": "Go back to an earlier image of a name",
    },
}
"""All commands of ``cfsctl image``."""
