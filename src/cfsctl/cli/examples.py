"""Examples in help texts; written by tools/man_pages.py from docs/man/prose.toml."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

EXAMPLES: Final[Mapping[str, tuple[str, ...]]] = {
    "": (
        "Create a repository that does not require fs-verity, and an image of a",
        "directory in it:",
        "  cfsctl init --insecure ./store",
        "  cfsctl --repo ./store create-image ./tree web",
        "",
        "List the images, remove one, and delete what is no longer referred to:",
        "  cfsctl --repo ./store images",
        "  cfsctl --repo ./store untag web",
        "  cfsctl --repo ./store gc",
    ),
    "boot": (
        "Make a bootable image of a directory with a kernel, install a boot entry",
        "for it, list and remove it:",
        "  cfsctl init --insecure ./disk/composefs",
        "  id=$(cfsctl --repo ./disk/composefs create-image --bootable ./system \\",
        "      web)",
        "  cfsctl --repo ./disk/composefs boot prepare web \\",
        "      --bootdir ./boot --cmdline=rw",
        "  cfsctl --repo ./disk/composefs boot list --bootdir ./boot",
        '  cfsctl --repo ./disk/composefs boot remove "$id" --bootdir ./boot',
    ),
    "boot list": (
        "List what can be booted, with full IDs:",
        "  cfsctl boot list --json",
    ),
    "boot prepare": (
        "Install a boot entry for an image that was created with --bootable:",
        "  cfsctl boot prepare system --cmdline=rw",
    ),
    "boot remove": (
        "Remove the boot entries of an image, and delete it:",
        "  cfsctl boot remove 4f399dd3140f",
    ),
    "cat": (
        "Write the commit of a tag, as it is stored, to a file:",
        "  cfsctl --repo ./store cat refs/ostree/debian/12/minimal > commit",
    ),
    "compute-id": (
        "Compute the ID that an image would have in a SHA-256 repository, without",
        "a repository:",
        "  cfsctl --no-repo --hash sha256 compute-id ./tree",
    ),
    "compute-karg": (
        "Print the argument for the image of a bootable tree:",
        "  cfsctl --no-repo compute-karg ./tree",
    ),
    "copy": (
        "Copy an image to a repository that uses the other hash:",
        "  cfsctl --repo ./store copy web ./other",
    ),
    "create-dumpfile": (
        "Create an image of a directory in two steps, through a dump:",
        "  cfsctl --no-repo create-dumpfile --no-propagate-usr-to-root ./tree > \\",
        "      dump",
    ),
    "create-image": (
        "Create two images of the same tree, and see that they have the same ID:",
        "  cfsctl --repo ./store create-image ./tree web",
        "  cfsctl --repo ./store create-image ./tree web-again",
    ),
    "diff": (
        "Compare a directory with an image of it:",
        "  cfsctl diff --no-propagate-usr-to-root ./tree image:tree.img",
    ),
    "doctor": (
        "Examine the machine, and the file system that a repository is to be on:",
        "  cfsctl --repo /var/lib/images doctor",
    ),
    "dump-files": (
        "Print the contents of a directory in an image:",
        "  cfsctl --repo ./store dump-files web /usr/bin",
    ),
    "explain-digest": (
        "Find the options that another program used for an image of the same",
        "tree:",
        "  cfsctl explain-digest ./tree $id",
    ),
    "extract": (
        "Copy /usr to a new directory:",
        "  cfsctl --repo ./store extract web /usr ./usr",
        "",
        "Write everything to a tar archive:",
        "  cfsctl --repo ./store extract --tar web >tree.tar",
    ),
    "fetch": (
        "Fetch an image by its tag from a repository on a web server:",
        "  cfsctl --repo ./store fetch https://example.com/images refs/oci/web",
    ),
    "fsck": (
        "Check everything, with a report that programs can read:",
        "  cfsctl --repo ./store fsck --deep --json",
        "",
        "Restore damaged or missing objects from the original tree:",
        "  cfsctl --repo ./store fsck --repair --from ./tree",
    ),
    "gc": (
        "Print what would be removed if one more image were kept:",
        "  cfsctl --repo ./store gc --dry-run --root refs/web",
        "",
        "Remove garbage that is older than a day, but nothing if it is more than",
        "half of all objects:",
        "  cfsctl --repo ./store gc --grace 1d --max-delete 50%",
    ),
    "help": (
        "Read about a command of a group:",
        "  cfsctl help ostree pull",
    ),
    "image": (
        "Keep the last three images of a name, list them, and go back to the last",
        "one:",
        "  cfsctl --repo ./store image history web",
        "  cfsctl --repo ./store image rollback web",
    ),
    "image history": (
        "List the current and earlier images of a name:",
        "  cfsctl --repo ./store image history web",
    ),
    "image rename": (
        "Rename an image:",
        "  cfsctl --repo ./store image rename web site",
    ),
    "image rollback": (
        "Go back to the previous image:",
        "  cfsctl --repo ./store image rollback web",
    ),
    "image tag": (
        "Give an image another name, unless the name is in use:",
        "  cfsctl --repo ./store image tag --no-clobber web web-1",
    ),
    "image untag": (
        "Remove a name:",
        "  cfsctl --repo ./store image untag web",
    ),
    "image-objects": (
        "List the objects of an image:",
        "  cfsctl --repo ./store image-objects web",
    ),
    "images": (
        "List the images, with their whole IDs:",
        "  cfsctl --repo ./store images --no-trunc",
    ),
    "import-image": (
        "Store an image that mkcomposefs has made; its objects are not imported:",
        "  cfsctl --repo ./store import-image web < tree.img",
    ),
    "init": (
        "Create a repository unless it exists, as a script would:",
        "  cfsctl init --insecure --ensure ./store",
    ),
    "ls": (
        "List everything below /usr, with mode, owner, size and time:",
        "  cfsctl ls -lR image:tree.img /usr",
    ),
    "mount": (
        "Mount an image, and unmount it:",
        "  cfsctl --repo ./store mount web /mnt",
    ),
    "mounts": (
        "List what is mounted from a repository, with the whole IDs of the",
        "images:",
        "  cfsctl --repo ./store mounts --no-trunc",
    ),
    "oci": (
        "Pull an image from a local layout, list its tag and print its contents:",
        "  cfsctl --repo ./images oci pull oci:./layout:latest web",
        "  cfsctl --repo ./images oci images",
        "  cfsctl --repo ./images oci inspect web --config",
        "  cfsctl --repo ./images oci dump web",
        "  cfsctl --repo ./images oci fsck --deep",
        "",
        "Build an image of a directory and push it to a local layout;",
        "docker://HOST/NAME:TAG pushes to a registry:",
        "  cfsctl --repo ./images oci build ./tree app",
        "  cfsctl --repo ./images oci push app oci:./copy:latest",
        "",
        "See what a pull would fetch, pull two images at once, and copy one to",
        "another repository:",
        "  cfsctl --repo ./images oci pull --plan oci:./layout:latest",
        "  cfsctl --repo ./images oci pull oci:./layout:latest web \\",
        "      oci:./copy:latest app",
        "  cfsctl --repo ./other oci copy web --from ./images --name web",
    ),
    "oci build": (
        "Build an image of a directory, and one on top of another image:",
        "  cfsctl --repo ./images oci build ./tree app",
        "  cfsctl --repo ./images oci build ./tree more --base web",
    ),
    "oci compute-id": (
        "Print the ID of the file system image that is mounted:",
        "  cfsctl --repo ./images oci compute-id web",
    ),
    "oci copy": (
        "Copy an image from another repository on this machine:",
        "  cfsctl --repo ./images oci copy web --from ./other",
    ),
    "oci delta": (
        "Write a delta between two stored images to a USB disk:",
        "  cfsctl --repo ./images oci delta web web-new oci:/media/usb/delta",
    ),
    "oci dump": (
        "Print the tree of an image:",
        "  cfsctl --repo ./images oci dump web",
    ),
    "oci fetch": (
        "Fetch an image by its tag from a repository on a web server, under",
        "another name:",
        "  cfsctl --repo ./images oci fetch https://example.com/images \\",
        "      refs/oci/web --as site",
    ),
    "oci fsck": (
        "Check all images, with the content of their layers:",
        "  cfsctl --repo ./images oci fsck --deep",
    ),
    "oci history": (
        "List the current and earlier images of a tag:",
        "  cfsctl --repo ./images oci history web",
    ),
    "oci images": (
        "List the tags:",
        "  cfsctl --repo ./images oci images",
    ),
    "oci import-layer": (
        "Store a layer under its digest:",
        "  cfsctl --repo ./images oci import-layer $digest < layer.tar",
    ),
    "oci inspect": (
        "Print the config of an image:",
        "  cfsctl --repo ./images oci inspect web --config",
    ),
    "oci layer": (
        "List the files of a layer:",
        "  cfsctl --repo ./images oci layer sha256:DIFF_ID | tar -t",
    ),
    "oci linked-erofs-images": (
        "List the file system images of an image:",
        "  cfsctl --repo ./images oci linked-erofs-images IMAGE-ID",
    ),
    "oci mount": (
        "Mount an image:",
        "  cfsctl --repo ./images oci mount web /mnt",
    ),
    "oci prepare-boot": (
        "Install a boot entry with the newest kernel of an image, and a kernel",
        "argument:",
        "  cfsctl oci prepare-boot system --rules=cfsctl --cmdline=rw",
    ),
    "oci pull": (
        "Pull an image from a registry:",
        "  cfsctl --repo ./images oci pull docker://quay.io/fedora/fedora fedora",
        "",
        "Pull an image from a layout, and keep its compressed layers, so that it",
        "can be pushed unchanged:",
        "  cfsctl --repo ./images oci pull --keep-compressed oci:./layout:latest \\",
        "      web",
    ),
    "oci push": (
        "Copy an image to a registry:",
        "  cfsctl --repo ./images oci push web \\",
        "      docker://registry.example.com/web:1",
        "",
        "Copy an image to a layout:",
        "  cfsctl --repo ./images oci push web oci:./copy:latest",
    ),
    "oci rename": (
        "Rename a tag:",
        "  cfsctl --repo ./images oci rename web site",
    ),
    "oci rollback": (
        "Keep the last three images of a tag, and go back to the last one:",
        "  cfsctl --repo ./images oci rollback fedora",
    ),
    "oci tag": (
        "Keep an image under another name:",
        "  cfsctl --repo ./images oci tag web web-before",
    ),
    "oci untag": (
        "Remove a tag, and then everything that only it kept:",
        "  cfsctl --repo ./images oci untag web",
    ),
    "oci varlink": (
        "Serve one client on standard input and output, here one that sends",
        "nothing:",
        "  cfsctl oci varlink --stdio < /dev/null",
    ),
    "ostree": (
        "Pull a commit from a local repository, list its tag and print its",
        "contents:",
        "  cfsctl --repo ./store ostree pull-local ./ostree-repo test",
        "  cfsctl --repo ./store ostree images",
        "  cfsctl --repo ./store ostree inspect test",
        "  cfsctl --repo ./store ostree dump test",
        "",
        "Remove it again:",
        "  cfsctl --repo ./store ostree untag test",
    ),
    "ostree apply-delta": (
        "Store the commit of a static delta from a USB disk:",
        "  cfsctl --repo ./store ostree apply-delta /media/usb/update.delta",
    ),
    "ostree commit": (
        "Create a commit of an image, and tag it:",
        "  cfsctl --repo ./store ostree commit web --reference web",
    ),
    "ostree compute-id": (
        "Print the ID of the image that is mounted for a commit:",
        "  cfsctl --repo ./store ostree compute-id test",
    ),
    "ostree dump": (
        "Print the tree of a commit:",
        "  cfsctl --repo ./store ostree dump test",
    ),
    "ostree export": (
        "Write a commit to an OSTree repository:",
        "  cfsctl --repo ./store ostree export test ./ostree-repo --reference \\",
        "      copy",
    ),
    "ostree history": (
        "List the current and earlier commits of a tag:",
        "  cfsctl --repo ./store ostree history test",
    ),
    "ostree images": (
        "List the tags:",
        "  cfsctl --repo ./store ostree images",
    ),
    "ostree inspect": (
        "Print a commit, and its metadata:",
        "  cfsctl --repo ./store ostree inspect test",
        "  cfsctl --repo ./store ostree inspect test --metadata",
    ),
    "ostree list-refs": (
        "List what a server has:",
        "  cfsctl ostree list-refs https://example.com/repo",
        "",
        "List the branches of a repository on this machine:",
        '  cfsctl ostree list-refs "file://$PWD/ostree-repo"',
    ),
    "ostree log": (
        "Print a commit and its ancestors:",
        "  cfsctl --repo ./store ostree log test",
    ),
    "ostree mount": (
        "Mount a commit:",
        "  cfsctl --repo ./store ostree mount test /mnt",
    ),
    "ostree pull": (
        "Pull a branch from a server; a second run fetches only what is new:",
        "  cfsctl --repo ./store ostree pull https://example.com/repo stable",
        "",
        "Print what would be fetched, and whether there is room:",
        "  cfsctl --repo ./store ostree pull --plan https://example.com/repo \\",
        "      stable",
        "",
        "Pull in a cron job: only signed commits, for an hour at most, with",
        "patience for a bad line:",
        "  cfsctl --repo ./store --timeout 1h ostree pull \\",
        "      --gpg-key keys.gpg --stall-timeout 2m --retries 10 \\",
        "      https://example.com/repo stable",
    ),
    "ostree pull-local": (
        "Pull a branch from a repository on this machine:",
        "  cfsctl --repo ./store ostree pull-local ./ostree-repo test",
    ),
    "ostree rename": (
        "Rename a tag:",
        "  cfsctl --repo ./store ostree rename test tested",
    ),
    "ostree rollback": (
        "Keep the last three commits of a tag, and go back to the last one:",
        "  cfsctl --repo ./store ostree rollback stable",
    ),
    "ostree tag": (
        "Keep a commit under another name, which no pull moves:",
        "  cfsctl --repo ./store ostree tag test before-the-update",
    ),
    "ostree untag": (
        "Remove a tag, and then everything that only it kept:",
        "  cfsctl --repo ./store ostree untag test",
    ),
    "ostree verify": (
        "Verify a commit again, with the current keys:",
        "  cfsctl --repo ./store ostree verify test --gpg-key keys.gpg",
    ),
    "prune": (
        "Print what would be removed if daily tags of a week and monthly tags of",
        "a year were kept:",
        "  cfsctl --repo ./store prune 'nightly/*' --keep-daily 7 --keep-monthly \\",
        "      12 --dry-run",
        "",
        "Leave three targets in the history of a name, and collect garbage:",
        "  cfsctl --repo ./store prune web --keep-last 3 --gc",
    ),
    "remote": (
        "Configure a remote whose commits must be signed by a key, look at it,",
        "and remove it:",
        "  cfsctl remote add --remotes ./remotes.d example \\",
        "      https://example.com/repo \\",
        "      --verify-key \\",
        "      ed25519=inline:A6EHv/POEL4dcN0Y50vAmWfk1jCbpQ1fHdyGZBJVMbg=",
        "  cfsctl remote show --remotes ./remotes.d example",
        "  cfsctl remote remove --remotes ./remotes.d example",
    ),
    "remote add": (
        "Configure a remote whose commits must be signed:",
        "  cfsctl remote add --gpg-key keys.gpg debian https://example.com/repo",
    ),
    "remote list": (
        "List the remotes:",
        "  cfsctl remote list",
    ),
    "remote remove": (
        "Remove a remote:",
        "  cfsctl remote remove debian",
    ),
    "remote show": (
        "Print the URL of a remote and what its commits must be signed with:",
        "  cfsctl remote show debian",
    ),
    "rename": (
        "Rename an image:",
        "  cfsctl --repo ./store rename web site",
    ),
    "report": (
        "Write a page about the repository, and one about what an update changed:",
        "  cfsctl --repo ./store report store.html",
    ),
    "show": (
        "Print a file:",
        "  cfsctl --repo ./store show web /usr/note",
    ),
    "stats": (
        "Print the size of each image, and how much would be freed without it:",
        "  cfsctl --repo ./store stats",
    ),
    "tag": (
        "Give an image another name, unless the name is in use:",
        "  cfsctl --repo ./store tag --no-clobber web web-1",
    ),
    "transaction": (
        "Create two images without garbage collection in between:",
        "  cfsctl init --insecure ./store",
        "  cfsctl --repo ./store transaction sh -c '",
        "      cfsctl --repo ./store create-image ./tree one",
        "      cfsctl --repo ./store create-image ./tree two'",
    ),
    "umount": (
        "Unmount an image, and wait until its FUSE server has ended:",
        "  cfsctl umount /mnt",
    ),
    "untag": (
        "Remove a name, and then everything that only it kept:",
        "  cfsctl --repo ./store untag web",
    ),
    "varlink": (
        "Serve a socket in the background, and list the images of a repository",
        "through it:",
        "  cfsctl varlink --address ./socket &",
        "",
        "Call a method of a service that runs for this call only:",
        "  varlinkctl call exec:/usr/bin/cfsctl org.composefs.Oci.GetInfo '{}'",
    ),
}
"""By the words of the command; the program itself is the empty text."""
