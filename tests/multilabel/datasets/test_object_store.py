"""Files in a store: listed and read in ranges, tried a bounded number of times, refused in words."""

from __future__ import annotations

import logging

import pytest

from edgepress.multilabel.datasets import object_store
from edgepress.multilabel.datasets.object_store import ObjectStore, StoredFile
from tests.multilabel.tars import refusal

fsspec = pytest.importorskip("fsspec", reason="fsspec is not installed; it reads object stores")


@pytest.fixture
def store(tmp_path) -> ObjectStore:
    (tmp_path / "prefix" / "below").mkdir(parents=True)
    for name in ("a.tar", "below/b.tar"):
        (tmp_path / "prefix" / name).write_bytes(bytes(range(250)))
    (tmp_path / "beside").write_bytes(b"x")
    return ObjectStore(f"file://{tmp_path}/prefix/")


@pytest.fixture
def impatient(monkeypatch) -> None:
    monkeypatch.setattr(object_store, "WAITS", (0.001, 0.001))


def failing(monkeypatch, *errors: Exception) -> list[Exception]:
    """The next listings fail with these errors, one after the other."""
    left = list(errors)
    system = type(fsspec.filesystem("file"))
    whole = system.ls

    def ls(self, *arguments, **options):
        if left:
            raise left.pop(0)
        return whole(self, *arguments, **options)

    monkeypatch.setattr(system, "ls", ls)
    return left


def test_only_files_directly_below_are_listed(store, tmp_path):
    found = store.files()
    assert {name: file.size for name, file in found.items()} == {"a.tar": 250}
    (tmp_path / "prefix" / "a.tar").write_bytes(b"another")
    assert store.files()["a.tar"].version != found["a.tar"].version


@pytest.mark.parametrize("name", ["{root}/below/a.tar", "{root}2/a.tar", "/elsewhere/a.tar", "{root}/", "a.tar"])
def test_what_a_listing_names_elsewhere_is_left_out(store, monkeypatch, tmp_path, name):
    """As a page of links may."""
    entry = {"name": name.format(root=tmp_path / "prefix"), "type": "file", "size": 1}
    monkeypatch.setattr(type(fsspec.filesystem("file")), "ls", lambda self, root, detail: [entry])
    assert store.files() == {}


@pytest.mark.parametrize("start", [0, 1, 100, 249, 250])
def test_blocks_are_the_file_from_an_offset_on(store, monkeypatch, start):
    monkeypatch.setattr(object_store, "BLOCK", 7)
    file = store.files()["a.tar"]
    blocks = list(store.blocks(file, start))
    assert b"".join(blocks) == bytes(range(start, 250))
    assert all(len(block) == 7 for block in blocks[:-1])


def test_a_store_that_answers_again_in_time_is_waited_for(store, monkeypatch, impatient, caplog):
    left = failing(monkeypatch, ConnectionError("gone"), TimeoutError())
    assert "a.tar" in store.files()
    assert not left
    assert [record.levelno for record in caplog.records] == [logging.WARNING] * 2
    assert "ConnectionError: gone" in caplog.text


def test_tries_are_bounded_and_the_message_says_what_to_do(store, monkeypatch, impatient):
    left = failing(monkeypatch, *[ConnectionError("gone")] * 9)
    said = refusal(store.files)
    assert len(left) == 6
    assert "not listed in 3 tries (ConnectionError: gone)" in said
    assert "start the same command again; what was copied is kept" in said


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (PermissionError("Access Denied"), "expected credentials that may list and read it"),
        (type("NoCredentialsError", (Exception,), {})("none"), "expected credentials that may list and read it"),
        (FileNotFoundError("NoSuchBucket"), "nothing is there"),
        (ImportError("Install s3fs"), "install what reads file://"),
    ],
)
def test_what_no_further_try_would_mend_is_refused_at_once(store, monkeypatch, error, expected):
    left = failing(monkeypatch, error, ConnectionError("another try"))
    assert expected in refusal(store.files)
    assert len(left) == 1


def test_a_secret_of_the_environment_is_not_printed(store, monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "abcdefgh12345678")
    failing(monkeypatch, PermissionError("signed with abcdefgh12345678"))
    said = refusal(store.files)
    assert "abcdefgh" not in said
    assert "signed with ***" in said


def test_an_answer_of_another_length_is_no_answer(store, impatient):
    said = refusal(lambda: list(store.blocks(StoredFile("a.tar", 300, ""))))
    assert "answered 250 bytes where 300 were asked for" in said


def test_a_server_without_ranges_is_refused_at_once(store, monkeypatch):
    monkeypatch.setattr(object_store, "BLOCK", 100)
    system, tries = type(fsspec.filesystem("file")), []
    whole = bytes(range(250))
    monkeypatch.setattr(system, "cat_ranges", lambda self, paths, *_, **__: tries.append(1) or [whole for _ in paths])
    said = refusal(lambda: list(store.blocks(store.files()["a.tar"])))
    assert "answered 250 bytes where 100 were asked for; expected one that answers ranges of bytes" in said
    assert len(tries) == 1


def test_where_credentials_belong_is_said_by_the_store():
    said = ObjectStore("s3://bucket/prefix")._final(PermissionError())
    assert said is not None
    assert "AWS_ACCESS_KEY_ID" in said


@pytest.mark.parametrize(
    "url", ["s3://bucket/a/../b", "s3://bucket/a?versionId=1", "simplecache::s3://bucket/a", "s3://", "https://h/a#b"]
)
def test_what_is_no_folder_s_url_is_refused(url):
    assert "URL" in refusal(ObjectStore, url)


def test_a_password_in_a_url_is_refused_and_not_repeated():
    said = refusal(ObjectStore, "s3://AKIAKEY:topsecret@bucket/prefix")
    assert "topsecret" not in said
    assert "AKIAKEY" not in said
    assert "AWS_PROFILE" in said
