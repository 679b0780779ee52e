"""PostgreSQL: a cluster of the tests' own, and databases in whichever server was found."""

import contextlib
import os
import secrets
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import psycopg
from psycopg import sql

from tests.services.ports import free_port
from tests.services.server import last_lines, new_folder, run_kept, user_for
from tests.services.waiting import wait_until

USUAL_URLS = (
    "postgresql://postgres@127.0.0.1:5432/postgres",
    "postgresql://postgres:postgres@127.0.0.1:5432/postgres",
)
PACKAGES = ("postgresql",)


def check(url: str) -> None:
    """Raise psycopg.Error unless the server answers and lets us make databases."""
    with psycopg.connect(url, connect_timeout=5) as connection:
        connection.execute("SET LOCAL statement_timeout = '5s'")
        row = connection.execute(
            "SELECT rolsuper OR rolcreatedb FROM pg_roles WHERE rolname = current_user",
        ).fetchone()
    if row != (True,):
        raise psycopg.OperationalError(f"the user of {url} may not create databases")


def find_programs() -> Path | None:
    """Give the folder that holds initdb and postgres, the newest version's if there are several."""
    if on_path := shutil.which("initdb"):
        return Path(on_path).parent
    versions = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: float(path.parts[-3]))
    return versions[-1].parent if versions else None


@contextlib.contextmanager
def new_database(url: str, *, template: str = "template0") -> Iterator[str]:
    """Make a database in the server at `url`, give its URL, drop it afterwards with whoever is connected.

    It is a copy of `template`, empty if nobody says otherwise. Nobody may be connected to a template, or making the
    copy fails: `close_to_all` sees to that, and nobody can be to template0.
    """
    name = f"orderup_test_{secrets.token_hex(6)}"
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(
            sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(sql.Identifier(name), sql.Identifier(template))
        )
    try:
        yield urlunsplit(urlsplit(url)._replace(path=f"/{name}"))
    finally:
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


def close_to_all(url: str, database: str) -> None:
    """Let nobody connect to this database of the server at `url` any more: from then on it is a template."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS false").format(sql.Identifier(database)))


class PostgresCluster:
    """A server of its own on a port of its own, to be stopped, killed and started again by a test.

    Its data outlives `stop` and `kill`: PostgreSQL writes them to the system, which is not killed. They do not outlive
    the machine, since it never waits for the disk (fsync is off) unless `durable` says so. `also_at`: an address
    besides 127.0.0.1 at which it listens, to whoever reaches it.
    """

    def __init__(
        self, programs: Path, *, owner: int | None = None, durable: bool = False, also_at: str | None = None
    ) -> None:
        self.port = free_port()
        self.url = f"postgresql://postgres@127.0.0.1:{self.port}/postgres"
        self._programs = programs
        self._owner = os.getpid() if owner is None else owner
        self._durable, self._also_at = durable, also_at
        # PostgreSQL refuses to run as root.
        self._user = user_for("postgres")
        self._folder = new_folder("postgres", user=self._user)
        self._data = self._folder / "data"
        self._keeper: subprocess.Popen[bytes] | None = None
        self._was_killed = False
        self._make()

    def _make(self) -> None:
        command: list[str | Path] = [
            self._programs / "initdb",
            "--pgdata",
            self._data,
            "--username",
            "postgres",
            "--auth",
            "trust",
        ]
        command += ["--encoding", "UTF8", "--no-locale", "--no-sync"]
        subprocess.run(
            command,
            check=True,
            stdout=subprocess.DEVNULL,
            user=self._user,
            group=self._user,
            extra_groups=None if self._user is None else [],
            cwd=self._folder,
        )
        if self._also_at is not None:
            with (self._data / "pg_hba.conf").open("a") as rules:
                rules.write("host all all all trust\n")

    def start(self) -> None:
        """Return when the server answers. After `kill` it may first have to recover, which is waited for."""
        try:
            wait_until(self._runs, what="PostgreSQL answers")
        except (TimeoutError, ChildProcessError) as error:
            error.add_note(last_lines(self._folder))
            raise

    def _runs(self) -> bool:
        if self._keeper is None:
            self._keeper = self._launch()
        if self._keeper.poll() is not None:
            # What served the connections of a killed server dies a moment after it; until then no new one can start.
            if not self._was_killed:
                raise ChildProcessError("PostgreSQL ended while starting")
            self._keeper = None
            return False
        with contextlib.suppress(psycopg.OperationalError):
            check(self.url)
            self._was_killed = False
            return True
        return False

    def _launch(self) -> subprocess.Popen[bytes]:
        settings = [
            f"listen_addresses={','.join(filter(None, ['127.0.0.1', self._also_at]))}",
            f"port={self.port}",
            "unix_socket_directories=",
            "max_connections=200",
        ]
        if not self._durable:
            settings += ["fsync=off", "full_page_writes=off"]
        command: list[str | Path] = [self._programs / "postgres", "-D", self._data]
        for setting in settings:
            command += ["-c", setting]
        # SIGINT: cut connections, roll back, stop. SIGTERM would wait for every client to leave.
        return run_kept(command, folder=self._folder, owner=self._owner, user=self._user, stop_signal=signal.SIGINT)

    def stop(self) -> None:
        """Stop as an administrator does (fast): connections are cut, transactions rolled back."""
        if self._keeper is not None:
            self._keeper.terminate()
            self._keeper.wait(30)
            self._keeper = None

    def kill(self) -> None:
        """Kill the server without warning, as a crash or the system's out-of-memory killer does."""
        if self._keeper is not None:
            os.kill(self._server_process(), signal.SIGKILL)
            self._keeper.wait(30)
            self._keeper = None
            self._was_killed = True

    def restart(self) -> None:
        self.stop()
        self.start()

    def restart_as_standby(self) -> None:
        """Come back as a server that may only be read, as a replica is until it takes over."""
        self.stop()
        signal_file = self._data / "standby.signal"
        signal_file.touch()
        if self._user is not None:
            shutil.chown(signal_file, self._user, self._user)
        self.start()

    def promote(self) -> None:
        """Return when the standby has taken over: it can be written from now on."""
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute("SELECT pg_promote()")

    def remove(self) -> None:
        self.stop()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _server_process(self) -> int:
        return int((self._data / "postmaster.pid").read_text().splitlines()[0])
