import os
import signal
import subprocess
import sys
from pathlib import Path

import httpx2
import pytest

from tests.services.waiting import PATIENCE_SECONDS, wait_until
from tests.serving import Program, ServerProcess, sqlite_url


def test_a_server_of_the_tests_answers_on_both_ports_and_comes_back_on_the_same(tmp_path: Path) -> None:
    with ServerProcess("pizza", folder=tmp_path, database_url=sqlite_url(tmp_path)).start() as server:
        before = [
            httpx2.get(f"{url}/readyz", timeout=PATIENCE_SECONDS).status_code for url in (server.front, server.back)
        ]
        server.kill()
        server.restart()
        after = [
            httpx2.get(f"{url}/readyz", timeout=PATIENCE_SECONDS).status_code for url in (server.front, server.back)
        ]
    assert before == after == [200, 200]
    assert not server.runs


def test_a_server_that_cannot_start_says_why(tmp_path: Path) -> None:
    server = ServerProcess("no_such_shop", folder=tmp_path, database_url=sqlite_url(tmp_path))
    with pytest.raises(ChildProcessError, match="ended while starting") as failure:
        server.start()
    assert "There is no shop no_such_shop" in "\n".join(failure.value.__notes__)


def test_a_server_gets_none_of_the_settings_of_whoever_runs_the_tests(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET_KEY", "the-key-of-somebody-who-runs-the-tests")
    server = ServerProcess("pizza", folder=tmp_path, database_url=sqlite_url(tmp_path))
    assert "SECRET_KEY" not in server.environment
    assert server.environment["PATH"] == os.environ["PATH"]


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends a program with the one who started it")
def test_a_program_ends_with_a_test_run_that_is_killed(tmp_path: Path) -> None:
    code = (
        "import sys, pathlib\n"
        "from tests.serving import Program\n"
        f"program = Program('sleeper', ['/bin/sleep', '60'], log=pathlib.Path({str(tmp_path / 'log')!r})).launch()\n"
        "print(program.pid, flush=True)\n"
        "sys.stdin.read()\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as run:
        assert run.stdout is not None
        pid = int(run.stdout.readline())
        run.send_signal(signal.SIGKILL)
    wait_until(lambda: not is_alive(pid), what="the program is gone")


def is_alive(pid: int) -> bool:
    """A program whose parent is dead may be left as a zombie where nobody collects it."""
    stat = Path(f"/proc/{pid}/stat")
    return stat.exists() and stat.read_text().rpartition(")")[2].split()[0] != "Z"


def test_a_program_that_does_not_end_is_told_of_with_what_it_printed(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "print('kneading', flush=True); input_ = __import__('signal').pause()"]
    with Program("mixer", command, log=tmp_path / "mixer.log").launch() as program:
        wait_until(lambda: "kneading" in program.printed(), what="it has printed")
        with pytest.raises(TimeoutError, match=r"mixer has not ended within 0\.1 s\nmixer printed last:\nkneading"):
            program.wait(seconds=0.1)
