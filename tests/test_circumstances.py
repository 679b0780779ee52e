"""The report of a failed test says what its process and its threads went through."""

import sys

import pytest

from tests import circumstances

STANDS_STILL = """
import os, subprocess, threading, time

def wait_in_vain(event):
    event.wait()

def test_it():
    threading.Thread(target=wait_in_vain, args=[threading.Event()], name="patient", daemon=True).start()
    subprocess.Popen(["sh", "-c", f"kill -STOP {os.getpid()}; sleep 3; kill -CONT {os.getpid()}"]).wait()
    time.sleep(1)
    raise TimeoutError("nothing came")
"""


@pytest.fixture
def quiet(pytester: pytest.Pytester) -> pytest.Pytester:
    """Of all our plugins it has this one."""
    pytester.makeini("[pytest]")
    pytester.makeconftest(f"import sys\nsys.path[:] = {sys.path}\nfrom {circumstances.__name__} import *")
    return pytester


def test_that_a_process_stood_still_is_told_and_what_others_waited_for(quiet: pytest.Pytester) -> None:
    quiet.makepyfile(STANDS_STILL)
    said = quiet.runpytest_subprocess("-p", "no:cacheprovider")
    said.assert_outcomes(failed=1)
    said.stdout.fnmatch_lines(["*This process stood still*", "until * for * s, 0.* s of them at work"])
    said.stdout.fnmatch_lines(["*Other threads*", "patient:", "*in wait_in_vain"])


def test_of_any_other_failure_nothing_more_is_said(quiet: pytest.Pytester) -> None:
    quiet.makepyfile("def test_it():\n    assert 1 == 2\n")
    said = quiet.runpytest_subprocess("-p", "no:cacheprovider")
    said.assert_outcomes(failed=1)
    said.stdout.no_fnmatch_line("*stood still*")
    said.stdout.no_fnmatch_line("*Other threads*")
