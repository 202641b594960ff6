"""The only resolver of file names: from what a label file calls a picture to the file on disk.

A name is first searched for below each folder in turn as it is written, with `\\` as `/`. Only if that finds nothing
is a missing suffix added; then case and the Unicode form are disregarded, as other systems do; an absolute name or a
URL is searched for by its last parts, the longest first; and leading folders that do not exist here are dropped, such
as the data set's own name before every path. If none of a split's pictures is found so, they lie in folders of their
own, and each is searched for in all of them (see `Elsewhere`). No step leaves the data set's folder or chooses among
several files: two answers are an error.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

from edgepress.multilabel.datasets import files
from edgepress.multilabel.datasets.elsewhere import Elsewhere
from edgepress.multilabel.errors import InputError, shown
from edgepress.multilabel.plural import plural

_SUFFIXES = dict.fromkeys(suffix for name in files.PICTURE_SUFFIXES for suffix in (name, name.upper()))
_ELSEWHERE = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://|/|[A-Za-z]:[\\/]|\\\\")
"""A URL, or a path from the root of a file system."""
_UPLOADED = re.compile(r"(?:.*/)?upload/\d+/[0-9a-f]{8}-(?P<name>[^/]+)")
"""Label Studio's name of a picture that was uploaded, with eight characters before the name that it had."""
_PLAIN = re.compile(r"[^\\:?%\x00-\x1f]+")


class Pictures:
    """Finds pictures below folders, the first folder first, with one listing per folder rather than a look per file."""

    def __init__(self, *folders: Path, elsewhere: Elsewhere | None = None) -> None:
        """Args:
        elsewhere: the other folders in which pictures may lie; None if they may not.
        """
        there = [folder for folder in dict.fromkeys(folders) if files.is_folder(folder)]
        self.folders = there or list(folders[:1])
        self._listings: dict[Path, frozenset[str]] = {}
        self._parents: dict[str, list[Path]] = {}
        self._by_stem: dict[Path, dict[str, list[str]]] = {}
        self._by_form: dict[Path, dict[str, list[str]]] = {}
        self._found: dict[Path, str] = {}
        self.dropped: dict[str, int] = {}
        """Leading parts of names that were dropped because they are no folders here, with the number of names each."""
        self._respelt: dict[str, str] = {}
        """Names that were found in another case or Unicode form, with what they are called here."""
        self._uploads = 0
        """Names that were found without the prefix of Label Studio's uploads."""
        self._elsewhere = elsewhere
        self._regular = False
        """Whether a picture was found in `folders`."""
        self._strayed: InputError | None = None
        """If pictures were found elsewhere: what would have been said of the first."""
        self._strays: dict[str, int] = {}
        """The other folders in which pictures were found, with the number of pictures each."""

    def afresh(self) -> Pictures:
        """The same folders, with nothing found in them yet."""
        made = Pictures(*self.folders, elsewhere=self._elsewhere)
        made._listings, made._parents = self._listings, self._parents
        made._by_stem, made._by_form = self._by_stem, self._by_form
        return made

    def found(self, name: str) -> Path | None:
        """Return the picture that a name leads to; None where it leads to none or to several."""
        try:
            return self.find(name, "") if name else None
        except InputError:
            return None

    def is_respelt(self, name: str) -> bool:
        """Whether the picture that was found for a name is written in another case or Unicode form."""
        return name in self._respelt

    def listed(self, name: str) -> Path | None:
        """The picture's path as it is written below the first folder that has it, or None."""
        parent, _, last = name.rpartition("/")
        for folder in self._below(parent):
            if last in self._listing(folder):
                return folder / last
        return None

    def find(self, name: str, where: str, *, suffix: bool = True) -> Path:
        """Find the picture's path.

        Args:
            name: the picture's name in a label file.
            where: what named it, for the error.
            suffix: whether the name may lack its suffix.

        Raises:
            InputError: no file fits, several do, or the name leaves the folder; the message says what was tried.
        """
        if _PLAIN.fullmatch(name) and name[0] != "/" and ".." not in name:
            found = self.listed(name) or (self._with_suffix(name) if suffix else None)
            if found is not None:
                if not self._regular:
                    self._is_regular()
                return found
        elsewhere = bool(_ELSEWHERE.match(name))
        written = _local(name) if elsewhere else name.replace("\\", "/")
        inside = files.inside(written, where, name)
        found = None if elsewhere else self._as_written(inside, where, suffix)
        if found is None:
            found = self._by_last_parts(inside, name, where, suffix, elsewhere)
        if found is not None:
            self._is_regular()
            return found
        stray = self._stray(inside, name, where, suffix, elsewhere)
        if stray is None:
            raise self._missing(inside, name, where, suffix, elsewhere)
        if self._strayed is None:
            self._strayed = self._missing(inside, name, where, suffix, elsewhere)
        return stray

    def _stray(self, inside: PurePosixPath, name: str, where: str, suffix: bool, elsewhere: bool) -> Path | None:
        """The picture in another folder, if no picture of the split lies where its name says."""
        if self._elsewhere is None or self._regular:
            return None
        if not elsewhere and len(inside.parts) > 1 and self._is_folder_here(inside.parts[0]):
            return None
        found = self._elsewhere.find(inside, name, where, suffix=suffix)
        if found is not None:
            self._claim(found, name, where, "no folder here has both where their names say")
            folder = found.parent.relative_to(self._elsewhere.root).as_posix()
            self._strays[folder] = self._strays.get(folder, 0) + 1
        return found

    def _is_regular(self) -> None:
        """Remember that pictures lie where names say.

        Raises:
            InputError: one was missing there and was found elsewhere, so that it may be another picture.
        """
        self._regular = True
        if self._strayed is not None:
            raise self._strayed

    def _claim(self, found: Path, name: str, where: str, why: str) -> None:
        if self._found.setdefault(found, name) != name:
            raise InputError(
                f"{where}: {name!r} and {self._found[found]!r} both lead to {found}, because {why}; expected one file "
                "for each name"
            )

    def _below(self, parent: str) -> list[Path]:
        folders = self._parents.get(parent)
        if folders is None:
            inside = [folder / parent if parent else folder for folder in self.folders]
            folders = self._parents[parent] = [folder for folder in inside if self._listing(folder)]
        return folders

    def _with_suffix(self, name: str) -> Path | None:
        """The one picture with this name and a suffix; None where there is none, or several, or the name has one."""
        parent, _, last = name.rpartition("/")
        if f".{last.rpartition('.')[2].lower()}" in files.PICTURE_SUFFIXES:
            return None
        found = {one: folder for folder in reversed(self._below(parent)) for one in self._stems(folder).get(last, ())}
        return next((folder / one for one, folder in found.items()), None) if len(found) == 1 else None

    def _stems(self, folder: Path) -> dict[str, list[str]]:
        """From each name without its suffix to the pictures in a folder that have it."""
        stems = self._by_stem.get(folder)
        if stems is None:
            stems = self._by_stem[folder] = {}
            for name in self._listing(folder):
                stem, _, ending = name.rpartition(".")
                if f".{ending}" in _SUFFIXES:
                    stems.setdefault(stem, []).append(name)
        return stems

    def _listing(self, folder: Path) -> frozenset[str]:
        listing = self._listings.get(folder)
        if listing is None:
            listing = self._listings[folder] = frozenset(files.files_of(folder))
        return listing

    def _as_written(self, inside: PurePosixPath, where: str, suffix: bool) -> Path | None:
        name = str(inside)
        found = self.listed(name)
        if found is None and suffix and inside.suffix.lower() not in files.PICTURE_SUFFIXES:
            fitting = [path for ending in _SUFFIXES if (path := self.listed(name + ending)) is not None]
            if len(fitting) > 1:
                raise InputError(f"{where}: {name!r} may be {fitting[0].name} or {fitting[1].name}; add the suffix")
            found = fitting[0] if fitting else None
        if found is None:  # a file system may find a file under another case or spelling than its listing shows
            found = next((path for folder in self.folders if files.is_file(path := folder / name)), None)
        return found if found is not None else self._in_other_letters(inside, where, suffix)

    def _in_other_letters(self, inside: PurePosixPath, where: str, suffix: bool) -> Path | None:
        """The one file whose path differs in case, or in the form of its Unicode letters, alone."""
        last = {inside.name}
        if suffix and inside.suffix.lower() not in files.PICTURE_SUFFIXES:
            last |= {inside.name + ending for ending in _SUFFIXES}
        found = {
            path
            for folder in self.folders
            for parent in self._folders_like(folder, inside.parts[:-1])
            for name in {_form(one) for one in last}
            for path in self._names_like(parent, name)
            if path.is_file()
        }
        if len(found) > 1:
            first, second, *_ = sorted(found)
            raise InputError(f"{where}: {str(inside)!r} may be {first} or {second}; write the one that is meant")
        for path in found:
            self._claim(path, str(inside), where, "no file here is written as they are")
            self._respelt[str(inside)] = path.name
        return next(iter(found), None)

    def _folders_like(self, folder: Path, parts: tuple[str, ...]) -> Iterator[Path]:
        if not parts:
            yield folder
            return
        for inner in self._names_like(folder, _form(parts[0])):
            yield from self._folders_like(inner, parts[1:]) if inner.is_dir() else ()

    def _names_like(self, folder: Path, form: str) -> list[Path]:
        """What lies in a folder under names of this form."""
        forms = self._by_form.get(folder)
        if forms is None:
            forms = self._by_form[folder] = {}
            for name in (*files.folders_of(folder), *self._listing(folder)):
                forms.setdefault(_form(name), []).append(name)
        return [folder / name for name in forms.get(form, ())]

    def _by_last_parts(
        self, inside: PurePosixPath, name: str, where: str, suffix: bool, elsewhere: bool
    ) -> Path | None:
        """The file that matches the last parts of a name, for the longest sequence of them that matches one."""
        parts = inside.parts
        for start in range(0 if elsewhere else 1, len(parts)):
            if not elsewhere and self._is_folder_here("/".join(parts[:start])):
                return None  # the folder is here, but the picture is not in it
            tail = PurePosixPath(*parts[start:])
            found = self._as_written(tail, where, suffix)
            if found is None:
                continue
            others = {path for folder in self._below(str(tail.parent)) if (path := folder / found.name).is_file()}
            if len(others) > 1:
                first, second, *_ = sorted(others)
                raise InputError(f"{where}: {name!r} may be {first} or {second}; write the folder that is meant")
            self._claim(found, name, where, f"no folder here is called {parts[0]!r}")
            front = "/".join(parts[:start])
            self.dropped[front] = self.dropped.get(front, 0) + 1
            return found
        uploaded = _UPLOADED.fullmatch(str(inside)) if elsewhere else None
        if uploaded is None or (found := self._as_written(PurePosixPath(uploaded["name"]), where, False)) is None:
            return None
        self._claim(found, name, where, "they differ in the prefix of Label Studio's uploads alone")
        self._uploads += 1
        return found

    def _is_folder_here(self, name: str) -> bool:
        return any(files.is_folder(folder / name) for folder in self.folders)

    def _missing(self, inside: PurePosixPath, name: str, where: str, suffix: bool, elsewhere: bool) -> InputError:
        tried = ["as it is written"] if not elsewhere else ["by its last parts"]
        if suffix and inside.suffix.lower() not in files.PICTURE_SUFFIXES:
            tried.append("with a picture's suffix")
        tried.append("in another case or Unicode form")
        if not elsewhere and len(inside.parts) > 1:
            tried.append("without leading folders that are not here")
        folders = [folder.name or str(folder) for folder in self.folders]
        named = f" (written as {name!r})" if str(inside) != name else ""
        return InputError(
            f"{self.folders[0] / inside}: no such file, named by {where}{named}; looked for {', '.join(tried)} "
            f"in {', '.join(folders)}{self._not_searched(inside)}"
        )

    def _not_searched(self, inside: PurePosixPath) -> str:
        """The end of a message about a missing picture: the links to folders in which it was not searched for."""
        if self._elsewhere is None or self._regular:
            return ""
        links = [link.relative_to(self._elsewhere.root) for link in self._elsewhere.links if link not in self.folders]
        if not links:
            return ""
        said = "is a link to a folder and was" if len(links) == 1 else "are links to folders and were"
        return (
            f"; {shown([link.as_posix() for link in links], 3)} {said} not searched: name the picture with its folder, "
            f"as {(links[0] / inside.name).as_posix()}, or put a folder in the place of the link"
        )

    @property
    def notes(self) -> list[str]:
        """What was dropped from names, for people."""
        ordered = sorted(self.dropped.items(), key=lambda item: -item[1])
        read = ("name was read without its leading", "names were read without their leading")
        notes = [f"{plural(count, *read)} {front!r}, which is no folder here" for front, count in ordered[:1] if front]
        if len(ordered) > 1:
            notes.append(f"{len(ordered) - 1} more such leading parts were dropped")
        if self._uploads:
            said = plural(self._uploads, "name was found", "names were found")
            notes.append(f"{said} without the eight characters that Label Studio writes before uploads")
        if self._respelt:
            said = plural(len(self._respelt), "name was found", "names were found")
            notes.append(f"{said} in another case or Unicode form, such as {next(iter(self._respelt.values()))!r}")
        if self._strays:
            folders = shown([f"{name}/" for name in self._strays], 3)
            found = plural(
                sum(self._strays.values()), "picture was found by its name", "pictures were found by their names"
            )
            notes.append(f"{found} alone, in {folders}")
        return notes


def _form(name: str) -> str:
    """What names have in common that differ in case, or in the form of their Unicode letters, alone."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def _local(name: str) -> str:
    """The path within a URL or an absolute name, as a relative path."""
    scheme, double, rest = name.partition("://")
    if double and scheme.lower() in ("http", "https", "file"):
        return unquote(urlsplit(name).path).strip("/")
    if double:  # a bucket or a store in a cloud, whose names are not quoted
        return rest.partition("/")[2].strip("/")
    path = name.replace("\\", "/")
    if path.startswith("/data/local-files/") and "?d=" in path:  # Label Studio's name of a file on its own disk
        path = unquote(path.partition("?d=")[2])
    return re.sub(r"^[A-Za-z]:", "", path).lstrip("/")
