"""Files in an object store, or wherever else fsspec reads: listed, and read in ranges, with a bounded number of tries.

Which protocols there are depends on what is installed: s3:// needs s3fs, and http:// and https:// need aiohttp (the
extra `s3` brings both); gs:// needs gcsfs, az:// adlfs; file:// needs nothing more than fsspec. Each of them finds
credentials as its vendor's own tools do.
"""

from __future__ import annotations

import logging
import os
import re
import ssl
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import urlsplit

from edgepress.multilabel.errors import InputError

log = logging.getLogger("edgepress")

_T = TypeVar("_T")
BLOCK = 8 * 2**20
"""Bytes of one range that is asked for."""
AT_ONCE = 4
"""Ranges that are asked for at the same time."""
WAITS = (1.0, 2.0, 4.0, 8.0, 16.0)
"""Seconds before each further try; a store that starts again within half a minute stops nothing."""
_VERSIONS = ("ETag", "etag", "md5Hash", "mtime", "LastModified", "last_modified")
"""What tells a file's versions apart, the best first, by the names of the different stores."""
_LACKING = {"NoCredentialsError", "PartialCredentialsError", "ProfileNotFound", "DefaultCredentialsError",
            "ClientAuthenticationError"}  # fmt: skip
"""Names of the errors by which stores' packages say that they found no credentials."""
_CREDENTIALS = {
    "s3": "AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY; AWS_ENDPOINT_URL where it is not Amazon's; "
    "FSSPEC_S3_ANON=true for a public one",
    "gs": "gcloud auth application-default login, or GOOGLE_APPLICATION_CREDENTIALS",
    "az": "AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY, or AZURE_STORAGE_CONNECTION_STRING",
}
_ALIKE = {"s3a": "s3", "gcs": "gs", "abfs": "az", "abfss": "az"}
_PACKAGES = {"s3": "edgepress[s3]", "http": "edgepress[s3]", "https": "edgepress[s3]", "gs": "gcsfs", "az": "adlfs"}
_AUTHORITIES = {"s3": "AWS_CA_BUNDLE", "https": "SSL_CERT_FILE"}
"""The variable that names a file of further authorities whose certificates are trusted."""
_EXPECTED = "expected the URL of a folder, such as s3://bucket/prefix"
_WITH_PORT = re.compile(r"https?://[^/:]*:\d+(/|$)")


@dataclass(frozen=True)
class StoredFile:
    """A file in a store."""

    name: str
    """Its name directly below the store's URL."""
    size: int
    version: str
    """Differs where the content does: the store's ETag, or else the time of the last change; empty if it tells neither,
    as simple web servers do."""


class ObjectStore:
    """The files directly below a URL.

    Args:
        url: such as s3://bucket/prefix.

    Raises:
        InputError: it is no URL of a folder, or it holds a user name, a password or a signature, which other users of
            the machine would see.
    """

    def __init__(self, url: str) -> None:
        url = url.rstrip("/")
        if _has_user(url):
            raise InputError(
                f"{_without_secrets(url)}: a user name or a password in a URL is seen in lists of processes and in "
                "logs; expected no @ before the last part of the path, and credentials as the store's own tools take "
                f"them{self._credentials(url.partition('://')[0])}"
            )
        if "::" in url or "?" in url or "#" in url:
            raise InputError(f"{_without_secrets(url)}: {_EXPECTED}, without ::, ? and #")
        try:
            parts = urlsplit(url)
        except ValueError as error:
            raise InputError(f"{url}: {_EXPECTED} ({error})") from None
        if not (parts.netloc or parts.path):
            raise InputError(f"{url}: {_EXPECTED}")
        if ".." in parts.path.split("/"):
            raise InputError(f"{url}: has .. in it; expected the folder's own URL")
        self.url = url
        self._scheme = parts.scheme

    def files(self) -> dict[str, StoredFile]:
        """The files directly below the URL, by name. What is named as if it were elsewhere is left out.

        Raises:
            InputError: the store does not answer, or refuses.
        """
        listing = self._tried(f"{self.url}: not listed", self._listing)
        return {file.name: file for file in listing}

    def blocks(self, file: StoredFile, start: int = 0) -> Iterator[bytes]:
        """A file's bytes from an offset on, in order; a few ranges are asked for at a time.

        Raises:
            InputError: the store does not answer, refuses, or answers with other lengths than it was asked for.
        """
        while start < file.size:
            starts = list(range(start, min(start + AT_ONCE * BLOCK, file.size), BLOCK))
            ends = [min(one + BLOCK, file.size) for one in starts]
            yield from self._tried(f"{self.url}/{file.name}: not read", lambda: self._ranges(file, starts, ends))  # noqa: B023 # called at once
            start = ends[-1]

    def _listing(self) -> list[StoredFile]:
        system, root = self._system()
        system.invalidate_cache(root)
        found = []
        for entry in system.ls(root, detail=True):
            name = entry["name"].removeprefix(f"{root.rstrip('/')}/")
            if entry["type"] == "file" and name and "/" not in name and entry["name"] != name:
                whole = entry if entry.get("size") is not None else system.info(entry["name"])
                version = next((whole[key] for key in _VERSIONS if whole.get(key)), "")
                found.append(StoredFile(name, int(whole["size"]), str(version)))
        return found

    def _ranges(self, file: StoredFile, starts: list[int], ends: list[int]) -> list[bytes]:
        system, root = self._system()
        paths = [f"{root.rstrip('/')}/{file.name}"] * len(starts)
        blocks = system.cat_ranges(paths, starts, ends, on_error="raise")
        for block, start, end in zip(blocks, starts, ends, strict=True):
            if len(block) > end - start:
                raise InputError(
                    f"{self.url}/{file.name}: the server answered {len(block):,} bytes where {end - start:,} were "
                    "asked for; expected one that answers ranges of bytes: serve the folder with another program"
                )
            if len(block) < end - start:
                raise OSError(f"answered {len(block):,} bytes where {end - start:,} were asked for")
        return blocks

    def _system(self) -> tuple[Any, str]:
        """fsspec's file system and the path in it; fsspec keeps it for the process."""
        from fsspec.core import url_to_fs

        return url_to_fs(self.url)

    def _tried(self, failed: str, call: Callable[[], _T]) -> _T:
        """The answer to a call that may have to be made again.

        Args:
            failed: what it is that failed, for messages.
        """
        for wait in (*WAITS, None):
            try:
                return call()
            except (InputError, ModuleNotFoundError):  # the latter is fsspec itself, whose extra is named elsewhere
                raise
            except Exception as error:
                said = _said(error)
                if (final := self._final(error)) is not None:
                    raise InputError(f"{failed} ({said}); {final}") from None
                if wait is None:
                    raise InputError(
                        f"{failed} in {len(WAITS) + 1} tries ({said}); expected a store that answers: look whether it "
                        "runs and is reached from here, and start the same command again; what was copied is kept"
                    ) from None
                log.warning("%s (%s); trying again in %g s", failed, said, wait)
                time.sleep(wait)
        raise AssertionError("the last try returns or raises")

    def _final(self, error: Exception) -> str | None:
        """What to do about an error that another try would meet again; None for one that may pass."""
        status = getattr(error, "status", None)
        if isinstance(error, FileNotFoundError) or status == 404:
            return "nothing is there: expected the folder that edgepress shard wrote, copied as it is"
        if isinstance(error, PermissionError) or type(error).__name__ in _LACKING or status in (401, 403):
            return f"expected credentials that may list and read it{self._credentials(self._scheme)}"
        if isinstance(error, ImportError):
            package = _PACKAGES.get(_ALIKE.get(self._scheme, self._scheme))
            return f"install what reads {self._scheme}://" + (f" (pip install '{package}')" if package else "")
        if isinstance(error, ssl.SSLCertVerificationError) or "CERTIFICATE_VERIFY_FAILED" in str(error):
            variable = _AUTHORITIES.get(_ALIKE.get(self._scheme, self._scheme))
            more = f": {variable}=FILE names a file with the certificate of another authority" if variable else ""
            return f"its certificate is not trusted here; expected one for this host, of an authority known here{more}"
        if isinstance(error, ValueError | NotADirectoryError):
            return _EXPECTED
        return None

    @staticmethod
    def _credentials(scheme: str) -> str:
        """The end of a message: where credentials of a store are looked for."""
        known = _CREDENTIALS.get(_ALIKE.get(scheme, scheme))
        return f" ({known})" if known else ""


def _has_user(url: str) -> bool:
    """Whether there is an @ before the last part of a URL's path, or one after a password with a slash in it."""
    place, _, path = url.partition("://")[2].partition("/")
    if "@" in place or "@" in path.rpartition("/")[0]:
        return True
    return "@" in path and ":" in place and not _WITH_PORT.match(url)


def _without_secrets(url: str) -> str:
    """A URL for a message: without a user, a password, a query and a fragment."""
    scheme, double, rest = url.partition("://")
    user, at, place = rest.rpartition("@")
    if at:  # it may be in a query, and then nothing behind it is a place
        rest = "...@" + ("" if "?" in user or "#" in user else place)
    return re.sub(r"[?#].*", "?...", scheme + double + rest, flags=re.DOTALL)


def _said(error: Exception) -> str:
    """An error in a line, without what its URLs, and this process's environment, keep secret."""
    text = re.sub(r"\w+://[^\s'\"]+", lambda url: _without_secrets(url[0]), " ".join(str(error).split()))
    for name, value in os.environ.items():
        if len(value) >= 8 and re.search("SECRET|TOKEN|PASSWORD|KEY|CONNECTION_STRING", name.upper()):
            text = text.replace(value, "***")
    return f"{type(error).__name__}: {text[:200]}" if text else type(error).__name__
