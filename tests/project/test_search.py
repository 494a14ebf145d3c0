"""The search over hyper-parameters, killed and resumed: it loses nothing and makes the trials it would have made."""

import importlib.util
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from search_script import TRIALS

SCRIPT = Path(__file__).parents[1] / "search_script.py"

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("optuna") is None, reason="Optuna, of the extra `examples`, is not installed"
)


def _start(storage: Path, *, jobs: int, seed: int = 0) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-W", "error", str(SCRIPT), str(storage), str(jobs), str(seed)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def _finished(storage: Path) -> list[tuple[dict[str, float], dict[str, Any]]]:
    """The parameters and attributes of the finished trials, by their number; read from the file itself."""
    with closing(sqlite3.connect(storage)) as connection:
        found = []
        for (trial,) in connection.execute("SELECT trial_id FROM trials WHERE state = 'COMPLETE'").fetchall():
            params = connection.execute("SELECT param_name, param_value FROM trial_params WHERE trial_id = ?", (trial,))
            attributes = connection.execute(
                "SELECT key, value_json FROM trial_user_attributes WHERE trial_id = ?", (trial,)
            )
            found.append((dict(params), {key: json.loads(value) for key, value in attributes}))
    return sorted(found, key=lambda trial: trial[1]["number"])


def _wait_for_a_trial(storage: Path, process: subprocess.Popen[str]) -> None:
    while process.poll() is None:
        try:
            if _finished(storage):
                return
        except sqlite3.OperationalError:
            pass  # the tables are being made
        time.sleep(0.01)


def test_a_killed_search_goes_on(tmp_path: Path) -> None:
    killed, whole = tmp_path / "killed.db", tmp_path / "whole.db"
    undisturbed = _start(whole, jobs=1)
    process = _start(killed, jobs=2)
    _wait_for_a_trial(killed, process)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    before = _finished(killed)

    resumed = _start(killed, jobs=2)
    printed, error = resumed.communicate()
    assert (printed, error, resumed.returncode) == (f"{TRIALS}\n", "", 0)
    assert undisturbed.communicate() == (f"{TRIALS}\n", "")

    after = _finished(killed)
    assert [attributes["number"] for _, attributes in after] == list(range(TRIALS))
    assert [trial for trial in after if trial in before] == before
    assert after == _finished(whole)


def test_a_search_is_not_mixed_with_another(tmp_path: Path) -> None:
    from lib.search import open_study  # search_script has put its folder on the path

    path = tmp_path / "search.db"
    with open_study(path, {"epochs": 1, "seed": 0}), pytest.raises(OSError, match="another search is using it"):
        open_study(path, {"epochs": 1, "seed": 0}).__enter__()
    with pytest.raises(ValueError, match=r"search\.db: holds a search with seed 0 and not 1$"):
        open_study(path, {"epochs": 1, "seed": 1}).__enter__()
    (tmp_path / "text").write_text("not a data base")
    with pytest.raises(ValueError, match="text: is not an SQLite file"):
        open_study(tmp_path / "text", {}).__enter__()
