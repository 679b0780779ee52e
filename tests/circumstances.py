"""What the report of a failed test says besides: whether its process stood still meanwhile, as all do on a machine that
is halted or starved, and, where something was waited for in vain, what its other threads were doing."""

import sys
import threading
import time
import traceback
from collections.abc import Generator
from datetime import UTC, datetime

import pytest

LOOK_SECONDS, STILL_SECONDS = 0.5, 2.0
MOST_FRAMES = 12
Making = Generator[None, pytest.TestReport, pytest.TestReport]


class _Watch(threading.Thread):
    """stops: by the clock on the wall when each ended, how long it was, and how much of the processor it took."""

    def __init__(self) -> None:
        super().__init__(name="watch for standstills", daemon=True)
        self.stops: list[str] = []

    def run(self) -> None:
        last, used = time.monotonic(), time.process_time()
        while True:
            time.sleep(LOOK_SECONDS)
            now, now_used = time.monotonic(), time.process_time()
            if now - last > STILL_SECONDS:
                ended = datetime.now(UTC).strftime("%H:%M:%S")
                self.stops.append(f"until {ended} for {now - last:.1f} s, {now_used - used:.1f} s of them at work")
            last, used = now, now_used


_watch = _Watch()
_before = pytest.StashKey[int]()


def pytest_sessionstart() -> None:
    if not _watch.is_alive():
        _watch.start()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Making:
    report = yield
    if call.when == "setup":
        item.stash[_before] = len(_watch.stops)
    if report.failed:
        if stops := _watch.stops[item.stash.get(_before, 0) :]:
            report.sections.append(("This process stood still", "\n".join(stops)))
        if call.excinfo is not None and _was_in_vain(call.excinfo.value):
            report.sections.append(("Other threads", _other_threads()))
    return report


def _was_in_vain(error: BaseException) -> bool:
    if isinstance(error, BaseExceptionGroup):
        return any(map(_was_in_vain, error.exceptions))
    return isinstance(error, TimeoutError)


def _other_threads() -> str:
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    mine = threading.get_ident()
    return "\n".join(
        f"{names.get(id, id)}:\n{''.join(traceback.format_stack(frame)[-MOST_FRAMES:])}"
        for id, frame in sys._current_frames().items()  # noqa: SLF001
        if id != mine
    )
