"""Mirrors: data sets of shards in an object store, and their copies on this machine, which readers read.

A URL, such as s3://bucket/prefix, is taken wherever a data set's folder is. It stands for a folder in the user's cache
(`user_cache`; XDG_CACHE_HOME places it on another disk):

labels.txt, labels.yaml     copied when the URL is first used in a process, if the store's version is another
<split>.index.json          likewise; it names the shards, and only these are read
<split>-000000.tar ...      copied when their split is first loaded, if they are not there
.copied                     what was copied: size and time here, and the sha256 or the store's version
.partial/                   shards that are not finished, while an index names them; an interrupted copy goes on there

A shard gets its name when its sha256 equals the index's. Processes of one machine take turns, so each shard is copied
once. Every machine has a copy of its own of the splits that it loads, because an epoch's order runs over all shards.
"""

from __future__ import annotations

import hashlib
import logging
import re
import shutil
from contextlib import AbstractContextManager
from pathlib import Path
from typing import NamedTuple

from pydantic import BaseModel, ConfigDict, ValidationError

from edgepress.multilabel.bundle import file_sha256, write_atomically
from edgepress.multilabel.datasets import files
from edgepress.multilabel.datasets.object_store import ObjectStore, StoredFile
from edgepress.multilabel.datasets.webdataset import Index, IndexedTar, index_path
from edgepress.multilabel.durable import give_name, make_folder
from edgepress.multilabel.errors import InputError, shown
from edgepress.multilabel.label_groups import FILE as GROUPS
from edgepress.multilabel.lock import in_turn
from edgepress.multilabel.plural import plural
from edgepress.multilabel.user_cache import user_cache

log = logging.getLogger("edgepress")

_LABELS, _INDEX, _COPIED, _PARTIAL = "labels.txt", ".index.json", ".copied", ".partial"


class _Copy(NamedTuple):
    """A file that was copied: its size and time of modification here, and its sha256 (of a shard) or its version."""

    size: int
    modified: int
    identity: str


class _Copied(BaseModel):
    """The contents of .copied."""

    model_config = ConfigDict(strict=True, extra="forbid")

    files: dict[str, _Copy] = {}


class Mirror:
    """A data set in a store and its copy here.

    Args:
        url: the folder that `edgepress shard` wrote, in the store.

    Raises:
        InputError: see `ObjectStore`; or there is no cache folder.
    """

    def __init__(self, url: str) -> None:
        self.store = ObjectStore(url)
        self.url = self.store.url
        cache = user_cache("shards")
        if cache is None:
            raise InputError(f"{url}: no place for a copy: set XDG_CACHE_HOME to a folder on a disk with room for it")
        told = re.sub(r"[^\w.-]+", "-", self.url.split("://", 1)[1])[-60:].strip("-.")
        self.folder = cache / f"{told}-{hashlib.sha256(self.url.encode()).hexdigest()[:12]}"
        self._stored: dict[str, StoredFile] | None = None

    def look(self) -> None:
        """Copy labels and indexes that the store has in other versions than this folder, once in a process.

        Raises:
            InputError: see `ObjectStore.files`; or what `edgepress shard` writes is not there.
        """
        if self._stored is not None:
            return
        stored = self.store.files()
        indexes = [name for name in stored if name.endswith(_INDEX) and files.plain(name, self.url)]
        if _LABELS not in stored or not indexes:
            lacks = "<split>.index.json" if _LABELS in stored else _LABELS
            raise InputError(
                f"{self.url}: no {lacks} among {plural(len(stored), 'file')}; expected the folder that edgepress shard "
                "wrote, copied as it is; other tars are read from a disk"
            )
        make_folder(self.folder)
        with self._in_turn():
            self._take_described(stored, [_LABELS, *(name for name in stored if name == GROUPS), *indexes])
        self._stored = stored

    def bring(self, split: str) -> None:
        """Copy the shards of a split that are not here yet; nothing for a split that the store does not have.

        Raises:
            InputError: an index names a shard outside the folder, or one that the store lacks or has in another size;
                the disk has too little room; a shard's sha256 is not the index's; see also `ObjectStore.blocks`.
        """
        self.look()
        index = index_path(self.folder, files.plain(split, f"split {split!r}"))
        if not index.is_file():
            return
        tars = Index.open(index).tars
        for tar in tars:
            if files.plain(tar.name, f"{self.url}/{index.name}").startswith(".") or not tar.name.endswith(".tar"):
                raise InputError(f"{self.url}/{index.name}: names the shard {tar.name!r}; expected NAME.tar")
        if not self._missing(tars, self._record()):
            return
        with self._in_turn():  # another process may have brought them while this one waited
            record = self._record()
            self._recognise(tars, record)
            if missing := self._missing(tars, record):
                self._bring(split, missing, len(tars), record)

    def _bring(self, split: str, missing: list[IndexedTar], of: int, record: _Copied) -> None:
        assert self._stored is not None
        for tar in missing:
            found = self._stored.get(tar.name)
            if found is None or found.size != tar.size:
                has = "nothing of that name" if found is None else f"{found.size:,} bytes"
                raise InputError(
                    f"{self.url}/{tar.name}: {has} in the store, and {tar.size:,} bytes in {split}{_INDEX}; copy the "
                    "folder that edgepress shard wrote to the store again"
                )
        begun = sum(partial.stat().st_size for tar in missing if (partial := self._partial(tar)).is_file())
        needed = sum(tar.size for tar in missing) - begun
        if needed > (free := shutil.disk_usage(self.folder).free):
            raise InputError(
                f"{self.folder}: {needed:,} bytes of {split!r} are to be copied from {self.url}, and {free:,} are "
                "free; make room, or set XDG_CACHE_HOME to a folder on another disk"
            )
        shards = f"{len(missing)} of {plural(of, 'shard')}"
        more = f" beside {begun / 1e6:.1f} MB that are here" if begun else ""
        log.info("%s  copying %s from %s, %.1f MB%s, into %s", split, shards, self.url, needed / 1e6, more, self.folder)
        for number, tar in enumerate(missing, start=1):
            self._fetch(tar, self._stored[tar.name])
            self._keep(record, tar.name, tar.sha256)
            log.info("%s  shard %d/%d  copied %s, %.1f MB", split, number, len(missing), tar.name, tar.size / 1e6)

    def _fetch(self, tar: IndexedTar, stored: StoredFile) -> None:
        """Copy a shard, or the rest of it, and give it its name."""
        partial, digest = self._partial(tar), hashlib.sha256()
        make_folder(partial.parent)
        with partial.open("a+b") as file:
            file.seek(0)
            while block := file.read(1 << 20):
                digest.update(block)
            for block in self.store.blocks(stored, file.tell()):
                file.write(block)
                digest.update(block)
        if digest.hexdigest() != tar.sha256:
            partial.unlink()
            raise InputError(
                f"{self.url}/{tar.name}: its sha256 is {digest.hexdigest()[:12]}..., and {tar.sha256[:12]}... in the "
                "index: another shard, or damaged; copy the folder that edgepress shard wrote to the store again"
            )
        give_name(partial, self.folder / tar.name)

    def _take_described(self, stored: dict[str, StoredFile], names: list[str]) -> None:
        """Copy labels and indexes that changed, and remove what the store no longer describes."""
        record = self._record()
        versions = {name: stored[name].version for name in names}
        changed = [name for name in names if not (versions[name] and self._is_kept(name, versions[name], record))]
        for name in changed:
            write_atomically(self.folder / name, b"".join(self.store.blocks(stored[name])))
            self._keep(record, name, versions[name])
        if changed:
            size = sum(stored[name].size for name in changed) / 1e6
            log.info("copied %s from %s, %.1f MB, into %s", shown(changed), self.url, size, self.folder)
        partials = list(self.folder.glob(f"{_PARTIAL}/*"))
        if changed or partials or any(not name.endswith(".tar") and name not in names for name in record.files):
            indexes = [self.folder / name for name in names if name.endswith(_INDEX)]
            tars = [tar for index in indexes for tar in Index.open(index).tars]
            listed, wanted = {tar.name for tar in tars}, {self._partial(tar) for tar in tars}
            for name in [name for name in record.files if name not in listed and name not in names]:
                (self.folder / name).unlink(missing_ok=True)
                del record.files[name]
                log.info("removed %s, which %s no longer has", self.folder / name, self.url)
            for partial in [partial for partial in partials if partial not in wanted]:
                partial.unlink()
                log.info("removed %s, the begun copy of a shard that %s no longer has", partial, self.url)
            self._write(record)

    def _missing(self, tars: list[IndexedTar], record: _Copied) -> list[IndexedTar]:
        return [tar for tar in tars if not self._is_kept(tar.name, tar.sha256, record)]

    def _recognise(self, tars: list[IndexedTar], record: _Copied) -> None:
        """Keep shards whose record was lost, or that were moved, if their content is the index's."""
        for tar in self._missing(tars, record):
            path = self.folder / tar.name
            if path.is_file() and path.stat().st_size == tar.size and file_sha256(path) == tar.sha256:
                self._keep(record, tar.name, tar.sha256)

    def _is_kept(self, name: str, identity: str, record: _Copied) -> bool:
        path, copy = self.folder / name, record.files.get(name)
        if copy is None or copy.identity != identity or not path.is_file():
            return False
        found = path.stat()
        return (found.st_size, found.st_mtime_ns) == (copy.size, copy.modified)

    def _keep(self, record: _Copied, name: str, identity: str) -> None:
        found = (self.folder / name).stat()
        record.files[name] = _Copy(found.st_size, found.st_mtime_ns, identity)
        self._write(record)

    def _record(self) -> _Copied:
        """What was copied; nothing where that cannot be read, and then every file is compared or copied again."""
        try:
            return _Copied.model_validate_json((self.folder / _COPIED).read_bytes())
        except (FileNotFoundError, ValidationError):
            return _Copied()

    def _write(self, record: _Copied) -> None:
        write_atomically(self.folder / _COPIED, record.model_dump_json().encode())

    def _partial(self, tar: IndexedTar) -> Path:
        return self.folder / _PARTIAL / f"{tar.name}.{tar.sha256[:16]}"

    def _in_turn(self) -> AbstractContextManager[None]:
        return in_turn(self.folder / ".lock", f"copying {self.url}")


_MIRRORS: dict[Path, Mirror] = {}
"""Those of the URLs that this process was given, by their folders."""


def dataset_folder(given: str | Path) -> Path:
    """The folder in which a data set is read: the given one, or for a URL that of its copy, which is not made yet.

    Raises:
        InputError: see `Mirror`.
    """
    if "://" not in str(given):
        return Path(given)
    mirror = Mirror(str(given))
    _MIRRORS.setdefault(mirror.folder, mirror)
    return mirror.folder


def mirror_of(folder: Path) -> Mirror | None:
    """The mirror whose copy a folder is; None for any other folder."""
    return _MIRRORS.get(folder)
