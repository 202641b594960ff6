"""The verbs that look things over: inspect, data, shard, doctor, sign and verify-signature."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgepress.cli.options import (
    BundlePath,
    DataArgument,
    Difficult,
    Format,
    HostName,
    HostPython,
    Json,
    SshOption,
    load,
    print_doctor,
    print_result,
    stdout,
)


def inspect_verb(bundle: BundlePath, json: Json = False) -> None:
    """Check every byte of a bundle and print what it says of itself."""
    from edgepress.multilabel.bundle import Bundle

    opened = Bundle.open(bundle)
    manifest = opened.manifest.model_dump(mode="json")
    if not json:
        manifest.get("facts", {}).pop("history", None)
    print_result({"path": str(opened.path), "digest": opened.digest, "size_bytes": opened.size_bytes, **manifest}, json)


def data_verb(
    data: DataArgument,
    split: Annotated[list[str] | None, typer.Option("--split", help="Only these splits (default: all).")] = None,
    format: Format = "auto",
    difficult: Difficult = "ignore",
    json: Json = False,
) -> None:
    """Look a data set over: counts, imbalance, co-occurrence, broken pictures, duplicates across splits."""
    from edgepress.multilabel.datasets import list_splits
    from edgepress.multilabel.inspection import inspect_dataset, unions
    from edgepress.report.summary import print_data

    names = split or list_splits(data, format)  # type: ignore[arg-type] # checked there
    splits = {name: load(data, format, difficult, name) for name in names}
    joined = unions(splits)
    report = inspect_dataset({name: one for name, one in splits.items() if name not in joined})
    if json:
        print_result(report.as_dict() | {"unions": joined}, json)
        return
    print_data(report, stdout())
    for name, parts in joined.items():
        print(f"{name} holds the pictures of {' and '.join(parts)}, and was not looked over twice")


def shard_verb(
    data: DataArgument,
    out: Annotated[Path, typer.Option("--out", help="The folder for the shards: new, or of an earlier call.")],
    splits: Annotated[str | None, typer.Option("--splits", help="Splits, by commas (default: all).")] = None,
    shard_size: Annotated[int, typer.Option("--shard-size", min=1, help="The most MB in one tar.")] = 256,
    format: Format = "auto",
    difficult: Difficult = "ignore",
) -> None:
    """Copy a data set into WebDataset shards, which may lie on several disks; every verb reads them as data.

    An interrupted call goes on with the tars that are missing.
    """
    from edgepress.multilabel.datasets import list_splits
    from edgepress.multilabel.shards import write_shards

    names = splits.split(",") if splits is not None else list_splits(data, format)  # type: ignore[arg-type] # checked
    loaded = [load(data, format, difficult, name) for name in names]
    write_shards(loaded, out, shard_bytes=shard_size * 1_000_000)
    print(out)


def doctor_verb(
    host: HostName = None, host_python: HostPython = None, ssh_option: SshOption = None, json: Json = False
) -> None:
    """Say which backends work on this machine, or on another, and what mends the rest; exit code 1 where none does."""
    from edgepress.deploy.machine.doctor import diagnose
    from edgepress.remote.host import doctor_there, host_of

    there = host_of(host, host_python, ssh_option)
    report = doctor_there(there) if there else diagnose()
    if json:
        print_result(report, json)
    else:
        print_doctor(report, stdout())
    if not report["usable"]:
        raise typer.Exit(1)


def sign_verb(
    bundle: BundlePath,
    key: Annotated[
        Path, typer.Option("--key", help="A private Ed25519 key (PEM): openssl genpkey -algorithm ed25519.")
    ],
) -> None:
    """Sign a bundle, so that a device can tell who made it: its manifest, which holds every file's sha256."""
    from edgepress.multilabel.bundle import Bundle
    from edgepress.multilabel.signature import sign

    print(sign(Bundle.open(bundle), key))


def verify_signature_verb(
    bundle: BundlePath,
    key: Annotated[Path, typer.Option("--key", help="The signer's public key (PEM): openssl pkey -in KEY -pubout.")],
) -> None:
    """Check every file that the manifest names, and its signature; exit code 1 where another key signed it."""
    from edgepress.multilabel.bundle import Bundle
    from edgepress.multilabel.signature import is_signed_by

    opened = Bundle.open(bundle)
    good = is_signed_by(opened, key)
    print(f"{bundle}: {'signed by' if good else 'NOT signed by the owner of'} {key}")
    raise typer.Exit(0 if good else 1)
