"""What a process of ours wants from its system and its interpreter before it begins."""

import gc
import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager

WANTED_OPEN_FILES = 65_536
# Objects made before the collector looks at the young ones. Orders make many that live for a few commits and hold no
# cycles: at Python's 700 the collector takes half of the engine's time, at 50,000 a tenth.
YOUNG_OBJECTS = 200_000
# How long the event loop may keep the interpreter from the thread that writes to SQLite. At Python's 5 ms the two work
# in turns; below this, changing over costs more than it wins.
SWITCH_SECONDS = 0.0005


def raise_open_files_limit() -> None:
    """As far as the system lets us: every customer who waits holds a socket."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = WANTED_OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, WANTED_OPEN_FILES)
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


@contextmanager
def collecting_no_garbage() -> Iterator[None]:
    """For imports: what they make stays, and to look for garbage among it takes a tenth of their time."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def tune_the_interpreter() -> None:
    """To be called once everything is imported: what is there now stays for good, and the collector does not look at it
    again."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG_OBJECTS, 20, 50)
    sys.setswitchinterval(SWITCH_SECONDS)
