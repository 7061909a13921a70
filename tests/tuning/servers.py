"""Database servers of our own: started in a temporary folder, by a user who is not root, and ended."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Generator
from pathlib import Path

PASSWORD = "s3cret"


class Server:
    """A server with a user ``me`` and an empty database ``search``."""

    kind = ""
    binaries: tuple[str, ...] = ()
    drivers: tuple[str, ...] = ()

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.process: subprocess.Popen[bytes] | None = None

    @classmethod
    def missing(cls) -> str:
        """What there is not on this machine to run one; "" where all is there."""
        lacking = [each for each in cls.binaries if shutil.which(each, path=_PATH) is None]
        if lacking:
            return f"no {' and no '.join(lacking)} on this machine"
        if not any(importlib.util.find_spec(each) for each in cls.drivers):
            return f"no driver: pip install 'downslope[{cls.kind}]'"
        return ""

    def url(self, password: str | None = PASSWORD, database: str = "search") -> str:
        who = "me" if password is None else f"me:{password}"
        return f"{self.kind}://{who}@127.0.0.1:{self.port}/{database}"

    def command(self) -> list[str]:
        """What starts the server."""
        raise NotImplementedError

    def start(self) -> None:
        """Start it, and wait until it listens."""
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                self.command(), stdout=log, stderr=log, cwd=self.folder, env={"PATH": _PATH}, **_nobody()
            )
        end = time.monotonic() + 60
        while not self._answers():
            if self.process.poll() is not None or time.monotonic() > end:
                raise RuntimeError((self.folder / "log").read_text(errors="replace")[-2000:])
            time.sleep(0.05)

    def stop(self) -> None:
        """End it as a crash would."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def _answers(self) -> bool:
        return self.asked("SELECT 1", "").returncode == 0

    def asked(self, statement: str, database: str = "search") -> subprocess.CompletedProcess[bytes]:
        """A statement, by the server's own client."""
        raise NotImplementedError

    def run(self, *words: str) -> None:
        """A command of the server's own user."""
        subprocess.run(
            words, cwd=self.folder, env={"PATH": _PATH}, check=True, capture_output=True, **_nobody()
        )


class PostgreSql(Server):
    """PostgreSQL, without syncs: the machine does not crash in a test."""

    kind = "postgresql"
    binaries = ("initdb", "postgres", "psql")
    drivers = ("psycopg2", "psycopg")

    def make(self) -> None:
        (self.folder / "password").write_text(PASSWORD)
        (self.folder / "password").chmod(0o644)
        self.run("initdb", "-D", "data", "-U", "me", "--pwfile=password", "-A", "scram-sha-256", "-N")
        self.start()
        self.asked("CREATE DATABASE search", "").check_returncode()

    def command(self) -> list[str]:
        return ["postgres", "-D", "data", "-p", str(self.port), "-k", str(self.folder), "-F"]

    def stop(self) -> None:
        super().stop()
        (self.folder / "data" / "postmaster.pid").unlink(missing_ok=True)
        end = time.monotonic() + 10  # its children notice, and let go of the memory that they share
        while _children(self.folder) and time.monotonic() < end:
            time.sleep(0.05)

    def asked(self, statement: str, database: str = "search") -> subprocess.CompletedProcess[bytes]:
        words = ["psql", "-q", "-h", "127.0.0.1", "-p", str(self.port), "-U", "me", "-c", statement]
        env = {"PATH": _PATH, "PGPASSWORD": PASSWORD}
        return subprocess.run([*words, database or "postgres"], capture_output=True, env=env, check=False)


class MariaDb(Server):
    """MariaDB, by the protocol of MySQL."""

    kind = "mysql"
    binaries = ("mariadb-install-db", "mariadbd", "mariadb")
    drivers = ("MySQLdb", "pymysql")

    def make(self) -> None:
        how = ("--auth-root-authentication-method=normal", "--skip-test-db")
        self.run("mariadb-install-db", "--no-defaults", f"--datadir={self.folder}/data", *how)
        self.start()
        for statement in (
            "CREATE DATABASE search",
            *(f"CREATE USER me@'{host}' IDENTIFIED BY '{PASSWORD}'" for host in ("%", "localhost")),
            *(f"GRANT ALL ON search.* TO me@'{host}'" for host in ("%", "localhost")),
        ):
            self.asked(statement, "").check_returncode()

    def command(self) -> list[str]:
        where = [f"--datadir={self.folder}/data", f"--socket={self.folder}/socket"]
        how = ["--bind-address=127.0.0.1", "--innodb-flush-log-at-trx-commit=2"]
        return ["mariadbd", "--no-defaults", *where, f"--port={self.port}", *how]

    def asked(self, statement: str, database: str = "search") -> subprocess.CompletedProcess[bytes]:
        words = ["mariadb", "--no-defaults", "-S", str(self.folder / "socket"), "-u", "root", "-e", statement]
        return subprocess.run([*words, database] if database else words, capture_output=True, check=False)


@contextlib.contextmanager
def running(kind: type[Server]) -> Generator[Server]:
    """A server of this kind while the block lasts."""
    with tempfile.TemporaryDirectory(prefix="downslope-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        if os.getuid() == 0:
            os.chown(folder, pwd.getpwnam("nobody").pw_uid, -1)
        server = kind(folder)
        try:
            server.make()
            yield server
        finally:
            server.stop()


_PATH = os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin"


def _nobody() -> dict[str, str]:
    """Servers refuse to run as root."""
    return {"user": "nobody"} if os.getuid() == 0 else {}


def _children(folder: Path) -> bool:
    found = Path("/proc").glob("[0-9]*/cwd")
    return any(_leads_to(each, folder / "data") for each in found)


def _leads_to(link: Path, target: Path) -> bool:
    try:
        return link.readlink() == target
    except OSError:
        return False
