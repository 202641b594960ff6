"""Signatures that show who made a bundle: Ed25519 (RFC 8032), of the manifest, which holds every file's sha256."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgepress.multilabel.bundle import MANIFEST, Bundle, write_atomically
from edgepress.multilabel.errors import InputError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

SIGNATURE = "manifest.sig"
_LONGEST_KEY = 10_000


def sign(bundle: Bundle, key: Path) -> Path:
    """Write a bundle's signature into its folder, and return that file.

    Args:
        key: a private Ed25519 key in PEM without a password, as `openssl genpkey -algorithm ed25519` writes it.

    Raises:
        InputError: the file is not such a key, or there is a different signature already.
    """
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    private: Ed25519PrivateKey = _key(key, "private", lambda data: load_pem_private_key(data, None), Ed25519PrivateKey)
    file = bundle.path / SIGNATURE
    signature = private.sign((bundle.path / MANIFEST).read_bytes())
    line = base64.b64encode(signature) + b"\n"
    # Ed25519 is deterministic: the same key and manifest produce the same line.
    if file.is_file() and file.read_bytes() != line:
        raise InputError(f"{file}: another key's signature, or another manifest's; remove it to sign the bundle anew")
    write_atomically(file, line)
    return file


def is_signed_by(bundle: Bundle, key: Path) -> bool:
    """Check whether a bundle's signature is of this manifest and by the owner of the key.

    Args:
        bundle: an opened bundle, so every file is known to match the manifest.
        key: the public Ed25519 key in PEM, as `openssl pkey -pubout` writes it.

    Raises:
        InputError: the bundle has no signature, the signature is not of Ed25519, or the file is not such a key.
    """
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    public: Ed25519PublicKey = _key(key, "public", load_pem_public_key, Ed25519PublicKey)
    file = bundle.path / SIGNATURE
    if not file.is_file():
        raise InputError(f"{bundle.path}: is not signed (no {SIGNATURE}); sign it: edgepress sign BUNDLE --key KEY")
    with file.open("rb") as opened:
        text = opened.read(200)
    try:
        signature = base64.b64decode(text.strip(), validate=True)
    except binascii.Error:
        signature = b""
    if len(signature) != 64:
        raise InputError(f"{file}: no Ed25519 signature; sign the bundle again")
    try:
        public.verify(signature, (bundle.path / MANIFEST).read_bytes())
    except InvalidSignature:
        return False
    return True


def _key(path: Path, what: str, load: Callable[[bytes], object], kind: type) -> Any:
    from cryptography.exceptions import UnsupportedAlgorithm

    try:
        with path.open("rb") as file:
            data = file.read(_LONGEST_KEY)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); expected a {what} Ed25519 key (PEM)") from None
    try:
        key = load(data)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, kind):
        raise InputError(f"{path}: no {what} Ed25519 key in PEM without a password")
    return key
