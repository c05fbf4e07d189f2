"""The home folder on this disk. All of it blocks, and belongs into a thread."""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from threading import Lock
from uuid import UUID

from slackwater.errors import SettingsError
from slackwater.identity.safe_id import safe_id
from slackwater.workspace.home import index
from slackwater.workspace.node_files import folder
from slackwater.workspace.node_files.folder import StoredFile

OWN = ".slackwater"
"""The folder in it that says that the rest is a mirror: what is there can be deleted."""
INDEX = "index"
"""The folder in that which tells what the files of owners are based on."""
PARTS, WITHOUT = ("",), ("threads",)
"""What of an owner's folder is theirs, and what has files of threads."""


class HomePlace:
    """`SLACKWATER_HOME_DIR`, laid out as DeerFlow has it: `users/ID`, and in it `threads/ID/user-data`."""

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()
        self._held: int | None = None
        self._lock = Lock()
        self._taken: dict[Path, object] = {}
        """Whose a thread's folder is: of a process's attempts at one run only the last may delete it."""
        self.left: dict[str, dict[str, StoredFile]] = {}
        """By owner, what the folders that were here already are based on."""

    def claim(self) -> None:
        """Take the folder for this process. Raises SettingsError for one that others use, or that has something else in it."""
        own = self.root / OWN
        try:
            self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
            if not own.is_dir() and any(self.root.iterdir()):
                raise SettingsError(
                    f"SLACKWATER_HOME_DIR: {self.root} has files that Slackwater has not put there: give an empty folder."
                )
            own.mkdir(mode=0o700, exist_ok=True)
            self._held = os.open(own, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            fcntl.flock(self._held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self.release()
            raise SettingsError(
                f"SLACKWATER_HOME_DIR: another process uses {self.root}: each needs a folder of its own."
            ) from None
        except OSError as error:
            raise SettingsError(
                f"SLACKWATER_HOME_DIR: {self.root} cannot be used: {error.strerror}."
            ) from None
        self._take_over(own)

    def _take_over(self, own: Path) -> None:
        """What the process before has left, which may have been killed: its owners' files with their index, and nothing else."""
        for left in own.iterdir():
            if left.name != INDEX:
                folder.remove(left)
        for threads in self.root.glob("users/*/threads"):
            if not threads.parent.is_symlink():
                folder.remove(threads)
        (own / INDEX).mkdir(mode=0o700, exist_ok=True)
        for place in (own / INDEX).glob("*.json"):
            with suppress(ValueError):
                owner, kept = index.read(place)
                self.left[owner] = kept

    def release(self) -> None:
        """Let others have it. Nothing is deleted after that."""
        with self._lock:
            if self._held is not None:
                os.close(self._held)
                self._held = None

    def of_owner(self, owner: str) -> Path:
        """Where the owner's files are."""
        return self.root / "users" / safe_id(owner)

    def new_thread(self, owner: str, thread_id: UUID, whose: object) -> Path:
        """An empty folder for the files of a thread. What is there was left by an attempt that has come to nothing."""
        path = self.of_owner(owner) / "threads" / str(thread_id) / "user-data"
        with self._lock:
            self._unlink_parents(path)
            self._discard(path)
            path.mkdir(mode=0o700, parents=True)
            self._taken[path] = whose
        return path

    def end_thread(self, path: Path, whose: object) -> None:
        """Delete the folder, unless it is another's by now."""
        with self._lock:
            if self._taken.get(path) is whose:
                del self._taken[path]
                self._discard(path)

    def end_owner(self, owner: str, kept: Mapping[str, StoredFile]) -> bool:
        """Delete the owner's folder; False if it has become another than `kept` says."""
        path = self.of_owner(owner)
        found = folder.look(path, kept, parts=PARTS, without=WITHOUT)
        if found.changed or found.gone or found.too_many:
            return False
        self._discard(path)
        if self._held is not None:
            self._index_of(owner).unlink(missing_ok=True)  # last: without its index the folder would look new
        return True

    def write_index(self, owner: str, kept: Mapping[str, StoredFile]) -> None:
        """Write down what the owner's folder is based on, for the next process that finds it."""
        with self._lock:
            if self._held is not None:
                index.write(self._index_of(owner), owner, kept)

    def _index_of(self, owner: str) -> Path:
        return self.root / OWN / INDEX / f"{safe_id(owner)}.json"

    def temporary(self) -> Path:
        """A new folder on the same disk, from which files can be moved into place."""
        return Path(tempfile.mkdtemp(dir=self.root / OWN))

    def _unlink_parents(self, path: Path) -> None:
        """The project's code may have put links in the place of folders: what is there is not ours."""
        for parent in reversed(path.relative_to(self.root).parents):
            if (self.root / parent).is_symlink():
                (self.root / parent).unlink()

    def _discard(self, path: Path) -> None:
        if self._held is not None and os.path.lexists(path):
            aside = self.temporary()
            path.rename(aside / "x")  # at once: nobody finds half of it
            folder.remove(aside)
