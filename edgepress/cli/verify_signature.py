"""verify-signature: check who signed a bundle, and whether it is complete."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgepress.cli.options import BundlePath
from edgepress.multilabel.bundle import Bundle


def verb(
    bundle: BundlePath,
    key: Annotated[Path, typer.Option("--key", help="The signer's public key (PEM): openssl pkey -in KEY -pubout.")],
) -> None:
    """Check a bundle's files and its signature.

    Every file that the manifest names is read; exit code 1 where another key signed it.
    """
    from edgepress.multilabel.signature import is_signed_by

    opened = Bundle.open(bundle)
    good = is_signed_by(opened, key)
    print(f"{bundle}: {'signed by' if good else 'NOT signed by the owner of'} {key}")
    raise typer.Exit(0 if good else 1)
