"""What a device takes from a connection: plain files, into one folder."""

from __future__ import annotations

import io
import tarfile

import numpy as np
import pytest

from edgepress.multilabel.errors import InputError
from edgepress.remote.host import _send
from edgepress.remote.receive import unpack


def tar(*members: tuple[tarfile.TarInfo, bytes]) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w|") as archive:
        for member, content in members:
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return stream.getvalue()


def link(name: str, target: str, kind: bytes) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, target
    return member


def test_links_are_sent_as_the_bytes_they_lead_to(tmp_path):
    """The other side takes no links: a bundle may lie behind some, and two of its files be one."""
    real = tmp_path / "real"
    real.write_bytes(b"weights")
    (tmp_path / "soft").symlink_to(real)
    (tmp_path / "hard").hardlink_to(real)
    names = ("real", "soft", "hard")
    stream = io.BytesIO()
    _send(stream, [(tmp_path / name, f"bundle/{name}") for name in names])
    stream.seek(0)
    with tarfile.open(fileobj=stream) as archive:
        assert all(member.isreg() for member in archive)
    stream.seek(0)
    unpack(stream, tmp_path / "there")
    for name in names:
        assert (tmp_path / "there" / "bundle" / name).read_bytes() == b"weights"
        assert not (tmp_path / "there" / "bundle" / name).is_symlink()


class TestUnpack:
    def test_plain_files_arrive(self, tmp_path):
        unpack(io.BytesIO(tar((tarfile.TarInfo("a/b.bin"), b"12"), (tarfile.TarInfo("c"), b""))), tmp_path)
        assert (tmp_path / "a/b.bin").read_bytes() == b"12"
        assert (tmp_path / "c").read_bytes() == b""

    @pytest.mark.parametrize(
        "member",
        [
            tarfile.TarInfo("../out"),
            tarfile.TarInfo("a/../../out"),
            tarfile.TarInfo("/out"),
            link("a", "/etc", tarfile.SYMTYPE),
            link("a", "/etc/passwd", tarfile.LNKTYPE),
            link("a", "", tarfile.FIFOTYPE),
            link("a", "", tarfile.CHRTYPE),
        ],
        ids=lambda member: f"{member.name}-{member.type!r}",
    )
    def test_whatever_would_leave_the_folder_is_refused(self, tmp_path, member):
        inside = tmp_path / "inside"
        inside.mkdir()
        with pytest.raises(InputError, match="refused"):
            unpack(io.BytesIO(tar((member, b""))), inside)
        assert list(tmp_path.rglob("*")) == [inside]

    @pytest.mark.parametrize("share", [0.1, 0.4, 0.9])
    def test_a_stream_that_breaks_off_in_a_file(self, tmp_path, share):
        whole = tar((tarfile.TarInfo("a"), np.random.default_rng(0).bytes(100_000)))
        with pytest.raises(InputError, match="broke off"):
            unpack(io.BytesIO(whole[: int(share * 100_000)]), tmp_path)

    @pytest.mark.parametrize("garbage", [b"", b"not a tar" * 1000])
    def test_no_tar(self, tmp_path, garbage):
        with pytest.raises(InputError, match="broke off"):
            unpack(io.BytesIO(garbage), tmp_path)
