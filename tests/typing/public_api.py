"""Every public name in use, for `mypy --strict` alone: this is checked, and never run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import assert_never, assert_type

import cfsctl


def repositories(path: Path) -> None:
    with cfsctl.Repository.init(
        path, algorithm=cfsctl.Algorithm.SHA256, erofs_version=cfsctl.FormatVersion.V1, exist_ok=True
    ) as made:
        assert_type(made, cfsctl.Repository)
    opened = cfsctl.Repository.open(str(path), lock_timeout_s=1.5, require_verity=False)
    assert_type(opened.path, str)
    assert_type(opened.algorithm, cfsctl.Algorithm)
    assert_type(opened.is_secure, bool)
    opened.close()
    assert_type(cfsctl.__version__, str)


def names(repository: cfsctl.Repository) -> None:
    assert_type(repository.images(), dict[str, cfsctl.ObjectID])
    assert_type(repository.tags(), dict[str, cfsctl.Checksum])
    assert_type(repository.find_image("web"), cfsctl.ObjectID | None)
    assert_type(repository.commit_image("some/ref"), cfsctl.ObjectID)
    assert_type(repository.tag("some/ref", "kept", keep=2), cfsctl.RefChange)
    assert_type(repository.rename_tag("kept", "other"), cfsctl.RefChange)
    assert_type(repository.roll_back("other"), cfsctl.RefChange)
    assert_type(repository.tag_history("other"), list[cfsctl.KeptTarget])
    assert_type(repository.tag_image("web", "live", replace=False), cfsctl.RefChange)
    assert_type(repository.rename_image("live", "now"), cfsctl.RefChange)
    assert_type(repository.roll_back_image("now", "1a2b"), cfsctl.RefChange)
    assert_type(repository.image_history("now"), list[cfsctl.KeptTarget])
    repository.untag("kept")
    assert_type(repository.remove_image("web"), cfsctl.RefChange)
    assert_type(repository.list_images(with_sizes=True), list[cfsctl.ListedImage])
    assert_type(repository.list_commits(), list[cfsctl.ListedCommit])
    assert_type(repository.list_commits()[0].sizes, cfsctl.RefSize | None)
    assert_type(repository.oci.list_images(), list[cfsctl.ListedOciImage])
    try:
        repository.roll_back("name", "1a2b")
    except (cfsctl.AmbiguousIdError, cfsctl.NothingKeptError, cfsctl.RefExistsError) as error:
        assert_type(error.hint, str | None)
    rules = cfsctl.RetentionRules(last=3, within_s=3600)
    pruned = repository.prune(cfsctl.PruneOptions(rules=rules, patterns=["a/*"]), dry_run=True)
    assert_type(pruned, cfsctl.PruneResult)
    assert_type(pruned.removed, list[cfsctl.PruneDecision])


def pulls(repository: cfsctl.Repository, progress: cfsctl.Progress) -> None:
    trust = cfsctl.trust_keys(gpg_keyrings=["keys.gpg"], sign_keys=["ed25519=file:key"], summaries=True)
    assert_type(trust, cfsctl.TrustPolicy)
    connection = cfsctl.ConnectionOptions(headers={"X-Name": "value"}, ca_file="ca.pem")
    result = repository.pull(
        "https://example.com/repo",
        "some/ref",
        base="older",
        subpaths=["/usr"],
        trust=trust,
        connection=connection,
        progress=progress,
    )
    assert_type(result, cfsctl.PullResult)
    assert_type(result.commit, cfsctl.Checksum)
    assert_type(result.image_id, cfsctl.ObjectID)
    assert_type(result.tag, str | None)
    assert_type(result.received_bytes, int)
    assert_type(repository.pull(Path("repo"), "some/ref").is_partial, bool)


def images(repository: cfsctl.Repository, tree: Path) -> None:
    image = repository.create_image(tree, "web", xattrs=cfsctl.XattrFilter.KEEP_USER)
    assert_type(image, cfsctl.ObjectID)
    repository.mount(image, "/mnt", writable_layer=cfsctl.WritableLayer("upper", "work"))
    with repository.mounted("web", tree) as nothing:
        assert_type(nothing, None)


def care(repository: cfsctl.Repository) -> None:
    collected = repository.gc(extra_roots=["web"], grace_s=60, max_delete=100)
    assert_type(collected, cfsctl.GcResult)
    assert_type(collected.objects_removed, int)
    assert_type(collected.problems, tuple[str, ...])
    report = repository.fsck(deep=True)
    assert_type(report, cfsctl.FsckReport)
    assert_type(report.is_ok, bool)
    assert_type(report.findings, list[str])


def more_about_commits(repository: cfsctl.Repository, other: cfsctl.Repository) -> None:
    info = repository.commit_info("some/ref", check_digest=False)
    assert_type(info, cfsctl.CommitInfo)
    assert_type(info.parent, cfsctl.Checksum | None)
    assert_type(info.signatures, tuple[cfsctl.ValidSignature, ...])
    assert_type(info.composefs_digest, cfsctl.DigestCheck | None)
    assert_type(repository.commit("web", "some/ref", subject="text"), cfsctl.CommitResult)
    assert_type(repository.export("some/ref", "ostree"), cfsctl.Checksum)
    assert_type(repository.history("some/ref"), Iterator[cfsctl.LogEntry])
    copied = repository.copy("web", other)
    assert_type(copied, cfsctl.NamedCopy)
    assert_type(copied.counts, cfsctl.CopyCounts)
    repository.commit_image("some/ref", xattr_names=cfsctl.XattrNames.UPSTREAM)


def many_pulls(repository: cfsctl.Repository) -> None:
    remote = cfsctl.find_remote("name", "remotes.d")
    assert_type(remote, cfsctl.Remote)
    options = cfsctl.PullOptions(trust=remote.policy, allow_downgrade=True)
    patience = cfsctl.Patience(connect_timeout_s=5.0, stall_timeout_s=60.0, retries=10)
    how = cfsctl.SourceOptions(mirrors=("https://example.org/repo",), patience=patience)
    results = repository.pull_refs(remote.url, None, options, source_options=how)
    assert_type(results, Iterator[cfsctl.PullResult])
    for estimate in repository.estimate_pull(remote.url, ["some/ref"], options):
        assert_type(estimate, cfsctl.PullEstimate)
    assert_type(cfsctl.list_refs(remote.url), list[cfsctl.RemoteRef])


def more_care(repository: cfsctl.Repository) -> None:
    stats = repository.stats()
    assert_type(stats, cfsctl.Stats)
    assert_type(stats.refs, list[cfsctl.RefStats])
    assert_type(repository.repair(["other"]), cfsctl.RepairReport)
    assert_type(repository.fsck().tally, cfsctl.Tally)
    assert_type(repository.explain_object("ab" * 64), cfsctl.Why)
    collected = repository.gc(max_delete=cfsctl.DeleteLimit(5.0, is_percentage=True))
    assert_type(collected.mounts, tuple[cfsctl.LiveMount, ...])
    assert_type(repository.image_refs(), list[cfsctl.Ref])
    cfsctl.Repository.open("repo", durability=cfsctl.Durability.NONE).close()


def reports(repository: cfsctl.Repository, progress: cfsctl.Progress) -> None:
    limits = cfsctl.ReportLimits(rows=20, trees=10, comparisons=5, versions=3)
    report = repository.report(limits, made_s=1, progress=progress)
    assert_type(report, cfsctl.StoreReport)
    assert_type(report.space.parts, tuple[cfsctl.SpaceBlock, ...])
    assert_type(report.space.kind, cfsctl.BlockKind)
    assert_type(report.largest, tuple[cfsctl.LargeObject, ...])
    assert_type(report.garbage, tuple[cfsctl.GarbageGroup, ...])
    assert_type(report.reasons, tuple[cfsctl.KeptReason, ...])
    assert_type(report.histories, tuple[cfsctl.RefHistory, ...])
    assert_type(report.histories[0].versions[0], cfsctl.ReportedVersion)
    compared = cfsctl.report_diff("dir:old", "dir:new", rows=10, ignore={cfsctl.Attribute.MTIME})
    assert_type(compared, cfsctl.DiffReport)
    changes = compared.changes
    assert_type(changes, cfsctl.TreeChanges)
    assert_type(changes.tally, cfsctl.ChangeTally)
    assert_type(changes.areas, tuple[cfsctl.ChangedArea, ...])
    assert_type(changes.entries, tuple[cfsctl.ChangedEntry, ...])
    assert_type(changes.packages, tuple[cfsctl.PackageChange, ...])
    assert_type(changes.packages[0].kind, cfsctl.ChangeKind)
    assert_type(cfsctl.draw_report(report, rows=20), Iterator[bytes])


def container_images(repository: cfsctl.Repository, progress: cfsctl.Progress) -> None:
    oci = repository.oci
    assert_type(oci, cfsctl.OciImages)
    registry = cfsctl.RegistryOptions(verify_tls=False)
    options = cfsctl.OciPullOptions(platform="linux/amd64")
    result = oci.pull("docker://name", "web", options, registry=registry, progress=progress)
    assert_type(result, cfsctl.OciPullResult)
    assert_type(result.manifest_digest, cfsctl.OciDigest)
    assert_type(result.image, cfsctl.ObjectID | None)
    assert_type(result.counts, cfsctl.ImportCounts)
    assert_type(result.boot_match, cfsctl.BootMatch | None)
    built = oci.build("dir:tree", "own", cfsctl.OciBuildOptions(env={"A": "b"}), base="web")
    assert_type(built, cfsctl.OciBuildResult)
    outcomes = oci.pull_images([("oci:layout:a", None)], options, registry=registry)
    assert_type(outcomes, Iterator[cfsctl.OciPullOutcome])
    assert_type(oci.plan_pull("oci:layout:a"), cfsctl.OciPullPlan)
    assert_type(oci.copy("web", repository, "copy", zerocopy=True), cfsctl.OciPullResult)
    assert_type(oci.push("own", "oci:layout", with_referrers=True), cfsctl.OciPushResult)
    index = oci.find_index("web")
    assert_type(index, cfsctl.OciDigest | None)
    if index is not None:
        assert_type(oci.inspect_index(index), cfsctl.OciIndexInspection)
        assert_type(oci.inspect_index(index).entries, tuple[cfsctl.OciIndexEntry, ...])
        assert_type(oci.copy_index(index, repository, "copy"), cfsctl.OciIndexPullResult)
    assert_type(oci.pull_index("oci:layout:a", "web"), cfsctl.OciIndexPullResult | None)
    assert_type(oci.make_delta("old", "new", "oci:layout"), cfsctl.OciDeltaResult)
    assert_type(oci.images(), Iterator[cfsctl.OciImageSummary])
    assert_type(oci.inspect("web"), cfsctl.OciInspection)
    assert_type(oci.tag("web", "kept"), cfsctl.RefChange)
    assert_type(oci.rename("kept", "other"), cfsctl.RefChange)
    assert_type(oci.roll_back("other"), cfsctl.RefChange)
    assert_type(oci.history("other"), list[cfsctl.KeptTarget])
    oci.untag("kept")
    image_id = oci.compute_id("web", cfsctl.OciTreeOptions(bootable=True))
    assert_type(image_id, cfsctl.ObjectID)
    assert_type(oci.linked_images(image_id), list[cfsctl.LinkedImage])
    assert_type(oci.linked_manifests(image_id), list[cfsctl.OciLinkedManifest])
    assert_type(oci.dump("web"), Iterator[bytes])
    oci.mount("web", "/mnt")
    layer = oci.layer("sha256:" + "ab" * 32)
    assert_type(layer, cfsctl.OciLayer)
    assert_type(layer.measure(), cfsctl.LayerFacts)
    assert_type(oci.import_layer(layer.digest, [b""]), cfsctl.ObjectID)
    received = oci.receive_layer(str(layer.digest), lambda _size: b"", [oci.open_objects()])
    assert_type(received, cfsctl.ReceivedLayer)
    assert_type(oci.finalize(b"{}", b"{}", {}), cfsctl.FinalizedImage)
    assert_type(repository.mount_detached("web"), int)
    report = oci.fsck()
    assert_type(report, cfsctl.OciFsckReport)
    assert_type(report.images, cfsctl.OciReport)


def digests_of_others(repository: cfsctl.Repository) -> None:
    try:
        repository.oci.import_layer("text", [])
    except (cfsctl.OciDigestError, cfsctl.DigestFormatError) as error:
        assert_type(error.field, str | None)
    except cfsctl.ReceivedDigestError as error:
        assert_type(error.actual, str)


def places() -> None:
    assert_type(cfsctl.find_user_repository({"HOME": "/root"}), str)
    assert cfsctl.SYSTEM_REPOSITORY


def refused_pushes(repository: cfsctl.Repository) -> None:
    try:
        repository.oci.push("web", "oci:layout", preserve_digests=True)
    except cfsctl.DigestChangedError as error:
        assert_type(error.exit_code, cfsctl.ExitCode)


def without_a_repository(tree: Path) -> None:
    assert_type(cfsctl.init_repository(tree, exist_ok=True), cfsctl.InitStatus)
    options = cfsctl.ScanOptions(bootable=True)
    image_id = cfsctl.compute_id(tree, options)
    assert_type(image_id, cfsctl.ObjectID)
    assert_type(cfsctl.create_dumpfile(tree), Iterator[bytes])
    assert_type(cfsctl.format_kernel_argument(image_id), str)
    reading = cfsctl.ReadingOptions(as_root=False)
    assert_type(cfsctl.diff("dir:a", "dir:b", options=reading), Iterator[cfsctl.Difference])
    assert_type(cfsctl.explain_digest("dir:a", image_id), cfsctl.DigestExplanation)


def machines() -> None:
    for finding in cfsctl.examine_machine("/var/lib/images"):
        assert_type(finding, cfsctl.Finding)
        assert_type(finding.state, cfsctl.FindingState)
        assert_type(finding.advice, str | None)


def differences(repository: cfsctl.Repository) -> list[str]:
    found = repository.diff("image:a", "dir:b", ignore={cfsctl.Attribute.MTIME})
    assert_type(found, Iterator[cfsctl.Difference])
    return [describe(difference) for difference in found]


def mounts(repository: cfsctl.Repository, mountpoint: Path) -> None:
    assert_type(repository.mounts(), cfsctl.MountList)
    for mount in repository.mounts().mounts:
        assert_type(mount, cfsctl.MountedImage)
    assert_type(cfsctl.unmount(mountpoint, lazy=True), int | None)
    options = cfsctl.FuseOptions(mode=cfsctl.FuseMode.YES)
    assert_type(options, cfsctl.FuseOptions)
    assert_type(repository.fetch("https://example.com", "name"), cfsctl.FetchedStream)


def remotes(directory: Path) -> None:
    new = cfsctl.NewRemote(name="a", url="https://example.com", verifies_gpg=False)
    assert_type(cfsctl.add_remote(new, directory, replace=True), cfsctl.Remote)
    assert_type(cfsctl.list_remotes(directory), dict[str, Mapping[str, str]])
    assert_type(cfsctl.remove_remote("a", directory), list[str])


def contents(repository: cfsctl.Repository, target: Path) -> None:
    assert_type(repository.list_tree("image:a", "/usr"), list[cfsctl.TreePlace])
    assert_type(repository.iter_file("image:a", b"/usr/file"), Iterator[bytes])
    assert_type(repository.extract("image:a", target), cfsctl.ExtractCounts)
    assert_type(repository.iter_tar("image:a"), Iterator[bytes])
    reading = cfsctl.TreeReading(open_repository=lambda: repository)
    assert_type(cfsctl.list_tree("a", reading=reading), list[cfsctl.TreePlace])
    assert_type(cfsctl.extract("a.img", target, "/usr", reading=reading), cfsctl.ExtractCounts)
    assert_type(cfsctl.iter_file("a.img", "/usr/file", reading=reading), Iterator[bytes])
    assert_type(cfsctl.iter_tar("a.img", reading=reading), Iterator[bytes])


def describe(difference: cfsctl.Difference) -> str:
    match difference:
        case cfsctl.Added(path, _) | cfsctl.Removed(path, _):
            return repr(path)
        case cfsctl.Changed(path, changes):
            assert_type(changes, tuple[cfsctl.Change, ...])
            return f"{path!r} {changes[0].old}"
        case _:
            assert_never(difference)


def boots(repository: cfsctl.Repository) -> None:
    options = cfsctl.PrepareOptions(bootdir="/boot", rules=cfsctl.BootRules.CFSCTL, cmdline=["rw"])
    prepared: cfsctl.Prepared = repository.prepare_boot("system", options)
    assert_type(repository.oci.prepare_boot("system", options), cfsctl.Prepared)
    assert_type(prepared.argument, str | None)
    for deployment in repository.deployments("/boot"):
        found: cfsctl.Deployment = deployment
        assert_type(found.state, str | None)
    image = repository.find_deployment("4f399dd3")
    removed: cfsctl.RemovedDeployment = repository.remove_deployment(image, purge_state=True)
    assert_type(removed.left, tuple[str, ...])


def show(event: cfsctl.Event) -> None:
    match event:
        case cfsctl.Started(name, total, unit):
            assert_type(total, int | None)
            assert_type(unit, cfsctl.Unit)
            assert_type(name, str)
        case cfsctl.Advanced(_, done, _) | cfsctl.Done(_, done):
            assert_type(done, int)
        case cfsctl.Skipped(name):
            raise cfsctl.CancelledError(name)
        case cfsctl.Message(text):
            assert_type(text, str)
        case cfsctl.Waiting():
            cancellation = cfsctl.Cancellation()
            assert_type(cancellation.is_cancelled, bool)
        case _:
            assert_never(event)


def errors(repository: cfsctl.Repository) -> cfsctl.ExitCode:
    try:
        pulls(repository, show)
    except (
        cfsctl.NotARepositoryError,
        cfsctl.LockedError,
        cfsctl.RefNotFoundError,
        cfsctl.InvalidNameError,
        cfsctl.CommitNotFoundError,
    ) as error:
        broad: cfsctl.RepositoryError = error
        return broad.exit_code
    except cfsctl.KeySpellingError as error:
        misspelt: ValueError = error
        raise misspelt from None
    except cfsctl.PolicyError as error:
        wrong: cfsctl.IntegrityError = error
        return wrong.exit_code
    except (cfsctl.FetchError, cfsctl.FormatError, cfsctl.ObjectMissingError) as error:
        assert_type(error.hint, str | None)
        return error.exit_code
    except cfsctl.CfsError as error:
        return error.exit_code
    return cfsctl.ExitCode.OK
