"""The files and processes of the embedded PostgreSQL: initdb, the postmaster, its pid file, socket and log."""

import os
import shutil
import stat
import threading
from collections.abc import Callable
from pathlib import Path

from medalion.core.errors import StoreError
from oltp.server.place import POINTER, Cluster, binaries, open_private, owned_folder, path_hash, run, spawn

PORT = 5432
SUPERUSER = "medalion"
LOG_LIMIT = 16 * 2**20
# macOS allows 104 bytes with the closing zero, Linux 108.
SOCKET_PATH_LIMIT = 103

# Written to postgresql.conf once, so that an owner may change them there. Memory for parallel queries comes from the
# main segment and files: a container's /dev/shm has 64 MB, and systemd removes a user's segments when he logs out.
SETTINGS = {
    "shared_buffers": "256MB",
    "dynamic_shared_memory_type": "mmap",
    "min_dynamic_shared_memory": "64MB",
    "max_connections": "200",
    "max_wal_size": "4GB",
    "wal_compression": "pglz",
    "checkpoint_timeout": "15min",
    "fsync": "on",
    "synchronous_commit": "on",
    "jit": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_checkpoints": "off",
}


def initialise(cluster: Cluster, *, hold: int, report: Callable[[str], None]) -> None:
    """Make the cluster's folder with initdb, whole or not at all.

    `hold` is a locked descriptor that initdb inherits, so that the lock outlives a killed caller until initdb ends.

    Raises: StoreError with what initdb said.
    """
    parent, inside = cluster.pgdata.parent, cluster.pgdata.parent == cluster.data_dir
    stem = f"{cluster.pgdata.name if inside else path_hash(cluster.data_dir)}.init-"
    for unfinished in parent.glob(f"{stem}*"):
        shutil.rmtree(unfinished, ignore_errors=True)
    folder = owned_folder(stem, parent, cluster.user)
    try:
        # Everyone who can enter the socket's folder (mode 0700: this user and root) may be superuser; hence `trust`.
        # Anything stricter would keep root out of a server that runs as somebody else.
        command = [str(binaries(cluster.user) / "initdb"), "--pgdata", str(folder), "--username", SUPERUSER]
        command += ["--encoding=UTF8", "--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
        command += ["--auth-local=trust", "--auth-host=reject", "--data-checksums", "--no-instructions"]
        command += [f"--set={name}={value}" for name, value in SETTINGS.items()]
        done = run(command, cluster.user, inherit=(hold,))
        if done.returncode:
            raise StoreError(f"could not make a PostgreSQL data folder for {cluster.data_dir}: {done.stdout.strip()}")
        folder.rename(cluster.pgdata)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    _sync_folder(parent)
    if not inside:
        pointer = cluster.data_dir / POINTER
        draft = pointer.with_suffix(".draft")
        draft.unlink(missing_ok=True)
        with os.fdopen(open_private(draft, os.O_WRONLY), "w", encoding="utf-8") as file:
            file.write(f"{cluster.pgdata}\n")
            file.flush()
            os.fsync(file.fileno())
        draft.rename(pointer)
        _sync_folder(cluster.data_dir)
        report(
            f"user {cluster.user.name if cluster.user else ''} cannot reach {cluster.data_dir}, so PostgreSQL's data "
            f"lies in {cluster.pgdata}; back up both, and in a container keep both on a volume"
        )


def launch(cluster: Cluster, *, hold: int) -> int:
    """Start the postmaster; the byte of the log at which it begins to write.

    It runs in a session of its own, where Ctrl-C and a closed terminal do not reach it. The caller has proved that no
    process of an earlier server lives. `hold` is the locked descriptor that the postmaster and its children inherit.
    """
    programs = binaries(cluster.user)
    # Who has a store open knows the server by its folder, which therefore stays the same.
    listens = socket_folder(cluster) or _socket_folder(cluster)
    # A pid that was reused, or that nobody has reaped, would keep PostgreSQL from starting, in either file.
    (cluster.pgdata / "postmaster.pid").unlink(missing_ok=True)
    (listens / f".s.PGSQL.{PORT}.lock").unlink(missing_ok=True)
    if cluster.log.exists() and cluster.log.stat().st_size > LOG_LIMIT:
        cluster.log.replace(cluster.log.with_suffix(".log.1"))
    command = [str(programs / "postgres"), "-D", str(cluster.pgdata), "-k", str(listens)]
    command += ["-p", str(PORT), "-c", "listen_addresses=", "-c", "unix_socket_permissions=0700"]
    log = open_private(cluster.log, os.O_WRONLY | os.O_APPEND)
    try:
        begin = os.fstat(log).st_size
        postmaster = spawn(command, cluster.user, output=log, inherit=(hold,))
    finally:
        os.close(log)
    # Whoever stops the server, its parent must reap it.
    threading.Thread(target=postmaster.wait, name="medalion-postmaster", daemon=True).start()
    return begin


def log_tail(log: Path, *, since: int = 0, lines: int = 15) -> str:
    """The last lines of the server's log, of what was written after the byte `since`."""
    if not log.exists():
        return ""
    with log.open("rb") as file:
        file.seek(max(since, log.stat().st_size - 16_384))
        return "\n".join(file.read().decode(errors="replace").splitlines()[-lines:])


def _socket_folder(cluster: Cluster) -> Path:
    """Where the server listens: its data folder, or a new private folder if that path is too long or has a comma."""
    path = str(cluster.pgdata)
    if len(os.fsencode(path)) + len(f"/.s.PGSQL.{PORT}") <= SOCKET_PATH_LIMIT and not set(path) & {",", '"'}:
        return cluster.pgdata
    # A name nobody can foresee leaves nothing to plant there. TMPDIR may be as long as the path that was too long.
    return owned_folder("medalion-", Path("/tmp"), cluster.user)  # noqa: S108


def remove_socket_folder(cluster: Cluster, folder: Path) -> None:
    """Remove the short socket folder of a server that is gone, if `folder` is one."""
    if folder != cluster.pgdata:
        shutil.rmtree(folder, ignore_errors=True)


def socket_folder(cluster: Cluster) -> Path | None:
    """Where the server of `postmaster.pid` listens; None before it says so, or if that folder is not its own."""
    lines = _pid_file(cluster.pgdata)
    if len(lines) < 5 or not lines[4]:
        return None
    folder = Path(lines[4])
    try:
        found = folder.lstat()
    except FileNotFoundError:
        return None
    private = stat.S_ISDIR(found.st_mode) and not found.st_mode & 0o077
    return folder if private and found.st_uid == cluster.pgdata.stat().st_uid else None


def postmaster_pid(pgdata: Path) -> int | None:
    """The pid of the live postmaster of `pgdata`; a zombie, or another program under a reused pid, is none."""
    lines = _pid_file(pgdata)
    try:
        pid = int(lines[0]) if lines else 0
    except ValueError:
        return None
    # A lone postgres (--single) writes its pid negated.
    return pid if pid > 0 and is_postmaster(pid, pgdata) else None


def is_postmaster(pid: int, pgdata: Path) -> bool:
    """Whether the process `pid` is a PostgreSQL server of `pgdata`, by its command line; a zombie has none."""
    # The command line is readable even for root in a container, who may not look at a process's working folder.
    if Path("/proc/self/cmdline").exists():
        try:
            arguments = [os.fsdecode(part) for part in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")]
        except (FileNotFoundError, ProcessLookupError):
            return False
        return Path(arguments[0]).name == "postgres" and str(pgdata) in arguments
    said = run(["/bin/ps", "-ww", "-o", "command=", "-p", str(pid)], None).stdout
    return "postgres" in said and str(pgdata) in said


def _pid_file(pgdata: Path) -> list[str]:
    try:
        return (pgdata / "postmaster.pid").read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except FileNotFoundError:
        return []


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
