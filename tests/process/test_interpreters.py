"""The interpreter's end, and interpreters beside the main one, each in a process of its own."""

import subprocess
import sys

import pytest

WORKS = """
import threading, time
import numpy as np
import fusedstep as fs

def work():
    x, g = np.ones((50_000, 60)), np.ones((50_000, 60))
    {setup}
    begun.release()
    while True:
        {call}

begun = threading.Semaphore(0)
for _ in range(2):
    threading.Thread(target=work, daemon=True).start()
for _ in range(2):
    begun.acquire()
time.sleep(0.1)
"""
CALLS = {
    "update": ("optimizer = fs.Adam()", "optimizer.update(x, g)"),
    "update of views in turn": ("w = [x[1:], x[:-1]]; optimizer = fs.SGD()", "optimizer.update(w, [g[1:], g[:-1]])"),
    "batch_norm": ("gamma, beta = np.ones(60), np.zeros(60)", "fs.batch_norm(x, gamma, beta)"),
    "batch_norm_backward": ("s = np.ones(60)", "fs.batch_norm_backward(g, x, s, s, s)"),
    "dropout": ("", "fs.dropout(x, 0.5, seed=1)"),
}


@pytest.mark.parametrize("name", CALLS)
def test_daemon_threads_that_are_inside_a_call_at_the_end(name: str) -> None:
    setup, call = CALLS[name]
    code = WORKS.format(setup=setup, call=call)
    for _ in range(3):
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=120)
        assert (done.returncode, done.stderr) == (0, "")


SUB_INTERPRETER = """
import sys
{before}
if sys.version_info >= (3, 13):
    import _interpreters as interpreters
    interpreter = interpreters.create("legacy")
else:
    import _xxsubinterpreters as interpreters
    interpreter = interpreters.create(isolated=False)
for _ in range(2):
    interpreters.run_string(interpreter, '''
try:
    import fusedstep
except ImportError as error:
    print(error)
''')
"""


# NumPy refuses to be imported a second time, in some versions with an ImportError of its own.
@pytest.mark.parametrize("before", ["", "import fusedstep"])
def test_a_sub_interpreter_gets_an_import_error(before: str) -> None:
    command = [sys.executable, "-W", "ignore", "-c", SUB_INTERPRETER.format(before=before)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    printed = done.stdout.splitlines()
    assert len(printed) == 2
    if not before:
        assert printed[0] == "fusedstep can't be imported in a sub-interpreter"
