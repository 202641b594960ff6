"""sign: sign a bundle, so that a device can check who made it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgepress.cli.options import BundlePath
from edgepress.multilabel.bundle import Bundle


def verb(
    bundle: BundlePath,
    key: Annotated[
        Path, typer.Option("--key", help="A private Ed25519 key (PEM): openssl genpkey -algorithm ed25519.")
    ],
) -> None:
    """Sign a bundle, so that a device can tell who made it.

    What is signed is its manifest, which holds the sha256 of every file.
    """
    from edgepress.multilabel.signature import sign

    print(sign(Bundle.open(bundle), key))
