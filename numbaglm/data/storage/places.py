"""Where cohorts and runs lie: a folder on disk, or the URL of an object store.

A local place is an absolute path, and is written by staging and renaming. A remote one goes through fsspec, whose
own retries it keeps; there an object appears whole or not at all, but there are neither folders nor renames. What
opens the store (keys, endpoints, profiles) comes from the environment of each process: a place holds its URL alone,
so that neither a log nor a pickle nor a file can give credentials away.
"""

from __future__ import annotations

import os
import re
import shutil
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from numbaglm.data.storage.files import PARTIAL, require_regular, staged, sweep
from numbaglm.errors import InputError, MissingExtraError, MissingFileError, OutputError, StoreError, invalid

_ALLOWED = "a folder on disk, or a URL such as s3://bucket/name"
# A colon may also come before a port, which is all digits.
_PASSWORD = re.compile(r"://[^/@:]*:(?!\d+/)[^@]*@")
# A listing that was true a moment ago may miss what another worker has written since.
_OPTIONS = {"use_listings_cache": False}


@dataclass(frozen=True)
class Place:
    """A folder, on disk or in an object store. Immutable; pickled as its URL, opened anew by whoever gets it.

    Names are relative, with "/" between their parts. "" is the place itself.

    Attributes
    ----------
    url
        Absolute path of a local place; URL of a remote one, without a slash at its end.
    """

    url: str

    @classmethod
    def parse(cls, where: str | os.PathLike[str] | Place, parameter: str = "path") -> Place:
        """Make a place of a path or a URL; touches nothing.

        Parameters
        ----------
        where
            A path, a ``file://`` URL (a path too), or a URL of any protocol that fsspec knows.
        parameter
            What the caller names it, for errors.

        Raises
        ------
        InputError
            It is neither, or it holds a password or a signature.
        MissingExtraError
            The package for the protocol is not installed.
        """
        if isinstance(where, Place):
            return where
        if not isinstance(where, str | os.PathLike) or not os.fspath(where):
            raise InputError(invalid(parameter, where, _ALLOWED))
        text = os.fspath(where)
        protocol, mark, rest = text.partition("://")
        if not mark:
            return cls(os.path.abspath(Path(text).expanduser()))  # noqa: PTH100 - resolve() follows links
        if protocol in ("file", "local"):
            return cls(_local_path(text, rest, parameter))
        if _PASSWORD.search(text) or "?" in rest:
            fix = "Credentials come from the environment, such as AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY."
            raise InputError(invalid(parameter, f"{protocol}://...", "a URL without a password or a query", fix))
        if "::" in text:
            raise InputError(invalid(parameter, text, f"{_ALLOWED}: a chain may serve what is out of date"))
        if not rest.strip("/"):
            raise InputError(invalid(parameter, text, _ALLOWED))
        place = cls(text.rstrip("/"))
        _check_protocol(place, protocol, parameter)
        return place

    @property
    def local(self) -> bool:
        """Whether it is a folder on disk."""
        return "://" not in self.url

    @property
    def in_process(self) -> bool:
        """Whether no other process sees it."""
        return self.url.startswith("memory://")

    @property
    def name(self) -> str:
        """Last part of the path or the URL."""
        return self.url.rpartition("/")[2] if not self.local else Path(self.url).name

    @property
    def path(self) -> Path:
        """Path of a local place."""
        if not self.local:
            raise InputError(invalid("path", self.url, "a folder on disk"))
        return Path(self.url)

    @property
    def parent(self) -> Place:
        """The place that it lies in."""
        if self.local:
            return Place(str(self.path.parent))
        above = self.url.removesuffix(self.name)
        return Place(above if above.endswith("://") else above.rstrip("/"))

    def __truediv__(self, name: str) -> Place:
        """Return the place of that name within this one."""
        return Place(str(self.path / name) if self.local else f"{self.url.removesuffix('/')}/{name}")

    def __str__(self) -> str:
        return self.url

    def exists(self, name: str = "") -> bool:
        """Whether there is a file or a folder of that name.

        Raises
        ------
        StoreError
            It can't be told: no permission, no connection.
        """
        with self.reading(name):
            if self.local:
                return (self.path / name).exists()
            fs, root = _open(self.url)
            try:
                fs.info(_join(root, name))  # not fs.exists, which takes a refusal for a no
            except FileNotFoundError:
                return False
            return True

    def read_bytes(self, name: str) -> bytes:
        """Read a file.

        Raises
        ------
        MissingFileError, StoreError
            It is not there, or can't be read.
        """
        with self.reading(name):
            if self.local:
                require_regular(self.path / name)
                return (self.path / name).read_bytes()
            fs, root = _open(self.url)
            return bytes(fs.cat_file(_join(root, name)))

    def write_bytes(self, name: str, data: bytes, sync: bool = True) -> None:
        """Write a file, which appears whole or not at all, and takes the place of one of that name.

        Parameters
        ----------
        name, data
            What to write.
        sync
            Whether it is on the disk itself when this returns. Otherwise a crash of the machine, not of this process,
            may leave the name without all of the data.

        Raises
        ------
        OutputError
        """
        with self.writing():
            if self.local:
                with staged(self.path / name, data, sync) as part:
                    part.replace(self.path / name)
            else:
                fs, root = _open(self.url)
                fs.pipe_file(_join(root, name), data)

    def write_new(self, name: str, data: bytes) -> bool:
        """Write a file unless there is one: False where there is. Of two writers at once one succeeds.

        In an object store without conditional writes both may. Let the data tell the writers apart.

        Raises
        ------
        OutputError
        """
        if self.exists(name):
            return False
        with self.writing():
            if self.local:
                return _create(self.path / name, data)
            fs, root = _open(self.url)
            try:
                fs.pipe_file(_join(root, name), data, mode="create")
            except Exception:  # servers word a refusal in several ways, and refuse what a retry wrote already
                if not self.exists(name):
                    raise
                return self.read_bytes(name) == data
        return True

    def list(self, name: str = "") -> Sequence[str]:
        """List all files below a folder, sorted: their names from this place on. Nothing where there is none.

        Raises
        ------
        StoreError
        """
        return sorted(self._sizes(name))

    def sweep(self) -> None:
        """Delete what a killed process has left half-written, on disk: in object stores nothing is.

        Whoever calls holds the lock of the place.

        Raises
        ------
        OutputError
        """
        if self.local:
            with self.writing():
                sweep(self.path)

    def children(self) -> Sequence[str]:
        """List the files and folders that are directly in this place, sorted. Nothing where there is none.

        Raises
        ------
        StoreError
        """
        with self.reading():
            try:
                if self.local:
                    return sorted(entry.name for entry in self.path.iterdir())
                fs, root = _open(self.url)
                return sorted(key.rstrip("/").rpartition("/")[2] for key in fs.ls(root, detail=False))
            except (FileNotFoundError, NotADirectoryError):
                return []

    def size(self, name: str = "") -> int:
        """Bytes of a file, or of all files below a folder; 0 where there is none.

        Raises
        ------
        StoreError
        """
        return sum(self._sizes(name).values())

    def remove(self, name: str = "") -> None:
        """Delete a file, or a folder with everything in it, if there is one.

        Raises
        ------
        OutputError
        """
        with self.writing(), suppress(FileNotFoundError):
            if not self.local:
                fs, root = _open(self.url)
                fs.rm(_join(root, name), recursive=True)
            elif (self.path / name).is_dir() and not (self.path / name).is_symlink():
                shutil.rmtree(self.path / name)
            else:
                (self.path / name).unlink()

    def zarr_store(self, read_only: bool = False) -> Any:
        """Open a Zarr store here. Send workers the place, not the store: fsspec's settings would go with it."""
        from zarr.storage import FsspecStore

        if self.local:
            return _regular_store()(self.path, read_only=read_only)
        return FsspecStore.from_url(self.url, storage_options=_OPTIONS, read_only=read_only)

    @contextmanager
    def reading(self, name: str = "") -> Iterator[None]:
        """Turn refusals into MissingFileError and StoreError, naming the place."""
        where = self / name if name else self
        try:
            yield
        except (StoreError, MissingFileError):
            raise
        except FileNotFoundError as error:
            raise MissingFileError(f"{where} does not exist{_unseen(self)}.") from error
        except self._refusals as error:
            raise StoreError(f"{where} can't be read ({_what(error)}). {self._advice}") from error

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Turn refusals into OutputError, naming the place."""
        try:
            yield
        except OutputError:
            raise
        except self._refusals as error:
            number = getattr(error, "errno", None)
            message = f"{self} could not be written ({_what(error)}). {self._advice}"
            raise (OutputError(number, message) if number else OutputError(message)) from error

    @property
    def _refusals(self) -> type[Exception]:
        # Each protocol's library has errors of its own, not all of them OSErrors.
        return OSError if self.local else Exception

    @property
    def _advice(self) -> str:
        if self.local:
            return "Check the folder, its permissions and the disk; then repeat the call."
        return "Check the URL, the endpoint and the credentials in the environment; then repeat the call."

    def _sizes(self, name: str) -> dict[str, int]:
        with self.reading(name):
            if self.local:
                found = {file.relative_to(self.path).as_posix(): size for file, size in _files(self.path / name)}
            else:
                fs, root = _open(self.url)
                below = fs.find(_join(root, name), detail=True)
                found = {key[len(root) + 1 :]: int(info["size"] or 0) for key, info in below.items()}
            return {key: n_bytes for key, n_bytes in found.items() if not key.endswith(PARTIAL)}


def _files(top: Path) -> Iterator[tuple[Path, int]]:
    """Give a file, or those below a folder, with their sizes; not what others delete meanwhile."""
    below = (Path(folder, name) for folder, _, names in os.walk(top) for name in names)
    for file in [top] if top.is_file() else below:
        with suppress(FileNotFoundError):
            found = file.stat()
            if stat.S_ISREG(found.st_mode):
                yield file, found.st_size


@lru_cache(maxsize=1)
def _regular_store() -> Any:
    """Zarr's store of a folder, which opens nothing but files: a thread would wait for a pipe, and no signal end it."""
    from zarr.storage import LocalStore

    class RegularStore(LocalStore):
        async def get(self, key: str, *arguments: Any, **options: Any) -> Any:
            require_regular(self.root / key)
            return await super().get(key, *arguments, **options)

    return RegularStore


def _local_path(url: str, rest: str, parameter: str) -> str:
    from urllib.request import url2pathname

    host, slash, path = rest.partition("/")
    if host not in ("", "localhost") or not path:
        raise InputError(invalid(parameter, url, "a URL of three slashes, such as file:///data/cohort.zarr"))
    return os.path.abspath(url2pathname(slash + path))  # noqa: PTH100


def _check_protocol(place: Place, protocol: str, parameter: str) -> None:
    try:
        _open(place.url)
    except ImportError as error:
        package = 'pip install "numbaglm[s3]"' if protocol in ("s3", "s3a") else f"pip install what it needs: {error}"
        raise MissingExtraError(f"{place} needs a package that is missing. Run: {package}") from error
    except ValueError as error:
        raise InputError(invalid(parameter, place.url, _ALLOWED, f"{error}.")) from error
    except Exception as error:  # some connect at once, and each library has errors of its own
        raise StoreError(f"{place} can't be reached ({_what(error)}). {place._advice}") from error


def _open(url: str) -> tuple[Any, str]:
    """File system of a URL, and the path on it."""
    protocol, mark, rest = url.partition("://")
    fs = _filesystem(protocol + mark + rest.partition("/")[0], os.getpid())
    return fs, fs._strip_protocol(url).rstrip("/")


# fsspec makes one for each thread, and to connect takes long; they may be shared, though not with a fork.
@lru_cache(maxsize=16)
def _filesystem(server: str, pid: int) -> Any:
    from fsspec import core

    connect: Any = core.url_to_fs  # untyped
    return connect(server, **_OPTIONS)[0]


def _join(root: str, name: str) -> str:
    return f"{root}/{name}" if name else root


def _create(target: Path, data: bytes) -> bool:
    """Write a file; False where there is one."""
    with staged(target, data) as part, suppress(FileExistsError):
        try:
            os.link(part, target)  # whole at once, which writing to an exclusively opened file is not
        except FileExistsError:
            raise
        except OSError:  # a file system without links
            with target.open("xb") as file:
                file.write(data)
        return True
    return False


def _unseen(place: Place) -> str:
    return ": memory:// is seen by the process that wrote it alone" if place.in_process else ""


def _what(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}".rstrip(": ")
