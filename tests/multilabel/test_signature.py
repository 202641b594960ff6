"""A signature holds for this manifest and this key, and for nothing else."""

from __future__ import annotations

import base64
import shutil

import pytest

pytest.importorskip("cryptography", reason="the extra sign is not installed")

from cryptography.hazmat.primitives.asymmetric import ed25519, x25519
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from edgepress.multilabel.bundle import MANIFEST, Bundle, write_bundle
from edgepress.multilabel.errors import InputError
from edgepress.multilabel.facts import Facts
from edgepress.multilabel.preprocess import Preprocess
from edgepress.multilabel.signature import SIGNATURE, is_signed_by, sign


def write_keys(folder, name):
    """NAME.pem and NAME-public.pem."""
    private = ed25519.Ed25519PrivateKey.generate()
    key, public = folder / f"{name}.pem", folder / f"{name}-public.pem"
    key.write_bytes(private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    public.write_bytes(private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    return key, public


def made(folder, weights=b"weights"):
    preprocess = Preprocess(size=32, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
    fields = {"kind": "onnx", "precision": "fp32", "model": "model.onnx", "labels": ("cat",), "preprocess": preprocess}
    with write_bundle(folder, **fields, facts=Facts(), tools={}, inputs="0" * 64) as partial:
        (partial / "model.onnx").write_bytes(weights)
    return Bundle.open(folder)


@pytest.fixture
def keys(tmp_path):
    return write_keys(tmp_path, "mine")


def test_it_travels_with_the_bundle_and_tells_its_signer_from_another(tmp_path, keys):
    key, public = keys
    sign(made(tmp_path / "bundle"), key)
    shutil.copytree(tmp_path / "bundle", tmp_path / "copy")
    copy = Bundle.open(tmp_path / "copy")
    assert is_signed_by(copy, public)
    assert not is_signed_by(copy, write_keys(tmp_path, "other")[1])


def test_anothers_signature_is_not_replaced(tmp_path, keys):
    bundle = made(tmp_path / "bundle")
    kept = sign(bundle, keys[0]).read_bytes()
    assert sign(bundle, keys[0]).read_bytes() == kept
    with pytest.raises(InputError, match=r"manifest\.sig: another key's signature"):
        sign(bundle, write_keys(tmp_path, "other")[0])
    assert is_signed_by(bundle, keys[1])


def test_another_bundle_under_the_same_signature_is_not_signed(tmp_path, keys):
    key, public = keys
    file = sign(made(tmp_path / "bundle"), key)
    other = made(tmp_path / "other", b"other weights")
    shutil.copyfile(file, other.path / SIGNATURE)
    assert not is_signed_by(other, public)


def test_every_changed_bit_of_a_signature_is_seen(tmp_path, keys):
    key, public = keys
    bundle = made(tmp_path / "bundle")
    file = sign(bundle, key)
    whole = bytearray(base64.b64decode(file.read_bytes()))
    for bit in range(8 * len(whole)):
        changed = whole[:]
        changed[bit // 8] ^= 1 << bit % 8
        file.write_bytes(base64.b64encode(changed))
        assert not is_signed_by(bundle, public)


def test_what_is_no_signature_or_no_key_is_refused_by_name(tmp_path, keys):
    key, public = keys
    bundle = made(tmp_path / "bundle")
    with pytest.raises(InputError, match=r"is not signed .no manifest.sig.; sign it"):
        is_signed_by(bundle, public)
    for text in (b"", b"%%%", base64.b64encode(b"short"), b"A" * 100_000):
        (bundle.path / SIGNATURE).write_bytes(text)
        with pytest.raises(InputError, match=r"manifest.sig: no Ed25519 signature"):
            is_signed_by(bundle, public)
    other = x25519.X25519PrivateKey.generate()
    wrong = {
        "missing.pem": None,
        "text.pem": b"no key",
        "other.pem": other.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
        "locked.pem": ed25519.Ed25519PrivateKey.generate().private_bytes(
            Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"password")
        ),
    }
    for name, data in wrong.items():
        if data is not None:
            (tmp_path / name).write_bytes(data)
        for use in (sign, is_signed_by):
            with pytest.raises(InputError, match=name):
                use(bundle, tmp_path / name)
    with pytest.raises(InputError, match="no private Ed25519 key"):
        sign(bundle, public)
    with pytest.raises(InputError, match="no public Ed25519 key"):
        is_signed_by(bundle, key)


def test_the_verbs_answer_by_exit_code(tmp_path, keys, edgepress):
    key, public = keys
    bundle = made(tmp_path / "bundle")
    assert edgepress("sign", bundle.path, "--key", key).code == 0
    good = edgepress("verify-signature", bundle.path, "--key", public)
    bad = edgepress("verify-signature", bundle.path, "--key", write_keys(tmp_path, "other")[1])
    assert (good.code, bad.code) == (0, 1)
    assert "NOT signed" in bad.out
    assert "NOT" not in good.out
    (bundle.path / "model.onnx").write_bytes(b"WEIGHTS")
    changed = edgepress("verify-signature", bundle.path, "--key", public)
    assert (changed.code, "sha256 differs" in changed.err) == (2, True)
    assert MANIFEST in {path.name for path in bundle.path.iterdir()}
