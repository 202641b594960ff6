"""Files in a store: listed and read in ranges, tried a bounded number of times, refused in words."""

from __future__ import annotations

import logging
import ssl
import sys
import threading
from datetime import datetime
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address

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


@pytest.mark.parametrize("host", ["[bucket", "buc\u2100ket"])
def test_a_host_that_is_none_is_refused(host):
    assert "expected the URL of a folder, such as s3://bucket/prefix" in refusal(ObjectStore, f"s3://{host}/x")


@pytest.mark.parametrize(
    "url",
    [
        "s3://AKIAKEY:topsecret@bucket/prefix",
        "s3://AKIAKEY:top/secret@bucket/prefix",
        "s3://AKIAKEY:topsecret/1@bucket",
        "s3://AKIAKEY:top secret'1@bucket/p",
        "s3://AKIAKEY:topsecret@[bucket/p",
        "https://topsecret@host/x",
        "https://topsecret@host/",
        "zip://a::https://topsecret@host",
        "https://host:8000/topsecret@v2/x",
    ],
)
def test_a_user_in_a_url_is_refused_and_not_repeated(url):
    said = refusal(ObjectStore, url)
    assert "secret" not in said
    assert "AKIAKEY" not in said
    assert "expected no @ before the last part of the path" in said
    assert url[:2] != "s3" or "AWS_PROFILE" in said


@pytest.mark.parametrize("url", ["s3://bucket/pictures@v2", "http://localhost:8000/pictures@v2/", "https://host/@"])
def test_an_at_in_the_folder_s_own_name_is_no_user(url):
    assert ObjectStore(url).url == url.rstrip("/")


@pytest.mark.parametrize(
    "url",
    [
        "https://host/a?X-Amz-Signature=topsecret",
        "https://host/a?X-Amz-Signature=me@topsecret",
        "https://host/a#topsecret",
        "simplecache::https://host/a?sig=topsecret",
        "https://host/a?sig=top\nsecret",
        "https://[host/a?sig=topsecret",
    ],
)
def test_a_query_or_a_fragment_is_not_repeated(url):
    said = refusal(ObjectStore, url)
    assert "secret" not in said
    assert "://" in said


def test_a_signed_url_in_a_store_s_answer_is_not_printed(store, monkeypatch):
    failing(monkeypatch, PermissionError("403, message='no', url='https://me:topsecret@host/a.tar?sig=topsecret' x"))
    said = refusal(store.files)
    assert "secret" not in said
    assert "url='https://...@host/a.tar?...' x" in said


def test_what_reads_http_is_named_where_it_is_not_installed(monkeypatch):
    monkeypatch.setitem(sys.modules, "aiohttp", None)
    monkeypatch.delitem(sys.modules, "fsspec.implementations.http", raising=False)
    for scheme in ("http", "https"):
        monkeypatch.delitem(sys.modules["fsspec.registry"]._registry, scheme, raising=False)
        said = refusal(ObjectStore(f"{scheme}://127.0.0.1:9/a").files)
        assert f"install what reads {scheme}:// (pip install 'edgepress[s3]')" in said


@pytest.fixture
def untrusted(tmp_path):
    """The address of a server whose certificate no authority has signed."""
    x509 = pytest.importorskip("cryptography.x509", reason="cryptography is not installed; it makes a certificate")
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key, name = ec.generate_private_key(ec.SECP256R1()), x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "a")])
    made = x509.CertificateBuilder(name, name, key.public_key(), 1, datetime(2020, 1, 1), datetime(2120, 1, 1))
    made = made.add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
    pem = tmp_path / "own.pem"
    pem.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        + made.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(SimpleHTTPRequestHandler, directory=tmp_path))
    server.socket = context.wrap_socket(server.socket, server_side=True)
    server.handle_error = lambda *_: None  # the caller hangs up
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"https://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_certificate_that_is_not_trusted_is_called_so_at_once(untrusted):
    pytest.importorskip("aiohttp", reason="aiohttp is not installed; it reads https://")
    said = refusal(ObjectStore(f"{untrusted}/a").files)
    assert "its certificate is not trusted here" in said
    assert "SSL_CERT_FILE=FILE" in said
    assert "tries" not in said


def test_a_store_s_certificate_that_is_not_trusted_is_called_so(store, monkeypatch):
    """As botocore tells it, whose error is none of ssl's."""
    failing(monkeypatch, ConnectionError("SSL validation failed for https://h [SSL: CERTIFICATE_VERIFY_FAILED] self"))
    assert "its certificate is not trusted here" in refusal(store.files)
