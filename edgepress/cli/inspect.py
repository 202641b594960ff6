"""inspect: check every byte of a bundle and print its manifest."""

from __future__ import annotations

from edgepress.cli.options import BundlePath, Json, print_json
from edgepress.multilabel.bundle import Bundle
from edgepress.report.terminal import print_record, stdout


def verb(bundle: BundlePath, json: Json = False) -> None:
    """Check every byte of a bundle and print its manifest."""
    from edgepress.deploy.engines.passport import unsound

    opened = Bundle.open(bundle)
    manifest = opened.manifest.model_dump(mode="json")
    here = {"here": unsound(opened) or "fits this processor"} if opened.manifest.precision == "int8" else {}
    record = {"path": str(opened.path), "digest": opened.digest, "size_bytes": opened.size_bytes, **here, **manifest}
    if json:
        print_json(record)
    else:
        manifest.get("facts", {}).pop("history", None)
        print_record(stdout(), record)
