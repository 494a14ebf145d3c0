"""Random search over several processes, each finished trial kept in an SQLite file from which a search goes on."""

from __future__ import annotations

import fcntl
import multiprocessing
import signal
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias, cast
from urllib.parse import quote

import numpy as np

# Where it is used, not here: it takes a second, in which Ctrl-C would end in a traceback, and the workers do without.
if TYPE_CHECKING:
    import optuna

STUDY = "hyperparameters"

Curves: TypeAlias = tuple[list[float], list[float]]
# The lowest and the highest value of each parameter, which are drawn evenly in their logarithm.
Ranges: TypeAlias = dict[str, tuple[float, float]]
Objective: TypeAlias = Callable[[dict[str, float]], Curves]


class Trial(NamedTuple):
    """A finished trial: its number, what was tried, and the accuracies, from 0 to 1, after each epoch."""

    number: int
    params: dict[str, float]
    train: list[float]
    validation: list[float]


class WorkerDiedError(OSError):
    """A process of the search ended before its trial did."""


@contextmanager
def open_study(path: Path, settings: dict[str, Any]) -> Iterator[optuna.Study]:
    """The study in a file, or a new one. While it is open, no other search can open it.

    Arguments:
        path: The file.
        settings: What two searches must share to be one; a dict that JSON gives back as it is.

    Raises:
        ValueError: The file isn't a search's, or one's with other settings.
        OSError: It can't be opened, or another search uses it.
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    # SQLite locks with fcntl, which on Linux knows nothing of flock; the system undoes it however the process ends.
    with path.open("a+b") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise OSError(f"{path}: another search is using it") from None
        file.seek(0)
        if file.read(16) not in (b"", b"SQLite format 3\0"):
            raise ValueError(f"{path}: is not an SQLite file")
        storage = optuna.storages.RDBStorage(f"sqlite:///{quote(str(path))}")
        try:
            yield _opened(storage, path, settings)
        finally:
            storage.engine.dispose()


def _opened(storage: optuna.storages.RDBStorage, path: Path, settings: dict[str, Any]) -> optuna.Study:
    import optuna
    from optuna.trial import TrialState

    study = optuna.create_study(storage=storage, study_name=STUDY, direction="maximize", load_if_exists=True)
    made_with = study.user_attrs.get("settings")
    if made_with is None:
        study.set_user_attr("settings", settings)
    elif made_with != settings:
        names = [name for name in settings if made_with.get(name) != settings[name]]
        differences = ", ".join(f"{name} {made_with.get(name)} and not {settings[name]}" for name in names)
        raise ValueError(f"{path}: holds a search with {differences}")
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        study.tell(trial.number, state=TrialState.FAIL)  # its process was killed: the lock says that none runs
    return study


def finished(study: optuna.Study, trials: int) -> list[Trial]:
    """Those of the first trials that are finished, by number."""
    from optuna.trial import TrialState

    complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    found = [
        Trial(t.user_attrs["number"], t.params, t.user_attrs["train"], t.user_attrs["validation"]) for t in complete
    ]
    return sorted(trial for trial in found if trial.number < trials)


def _ask(study: optuna.Study, ranges: Ranges, seed: int, number: int) -> optuna.Trial:
    from optuna.distributions import FloatDistribution
    from optuna.samplers import RandomSampler

    # A generator of its own for each, so that a trial is the same whichever were made before it, in whatever order.
    # Optuna's numbers won't do: a trial that was killed has used one up.
    study.sampler = RandomSampler(int(np.random.SeedSequence([seed, number]).generate_state(1)[0]))
    trial = study.ask({name: FloatDistribution(low, high, log=True) for name, (low, high) in ranges.items()})
    trial.set_user_attr("number", number)
    return trial


def _work(connection: Connection, objective: Objective) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        while True:
            params = connection.recv()
            answer: Curves | Exception
            try:
                answer = objective(params)
            except Exception as error:
                error.add_note(traceback.format_exc())
                answer = error
            connection.send(answer)
    except (EOFError, OSError):  # the search has ended or was killed
        return


def _start(objective: Objective) -> tuple[Connection, BaseProcess]:
    spawn = multiprocessing.get_context("spawn")
    ours, theirs = spawn.Pipe()
    process = spawn.Process(target=_work, args=(theirs, objective), daemon=True)
    # Inherited by the process, which would end in a traceback if Ctrl-C came while it starts.
    handler = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        process.start()
    finally:
        signal.signal(signal.SIGINT, handler)
    theirs.close()  # else its end would not be noticed
    return ours, process


def search(
    study: optuna.Study,
    objective: Objective,
    ranges: Ranges,
    *,
    trials: int,
    seed: int,
    jobs: int,
    after_trial: Callable[[], Any],
) -> None:
    """Makes those of the first trials that are not finished yet.

    Arguments:
        study: An open study.
        objective: Called in other processes with the value of each parameter. The last accuracy of its second curve,
            which is that of the validation images, is the trial's value.
        ranges: What is tried. The values of trial k depend on the seed and k alone.
        trials: How many there shall be in the end.
        seed: Where the values come from.
        jobs: The number of processes.
        after_trial: Called after each trial.

    Raises:
        WorkerDiedError: A process was killed.
        Exception: What the objective raised, with the process's traceback as its note.
    """
    done = {trial.number for trial in finished(study, trials)}
    left = (number for number in range(trials) if number not in done)
    processes: dict[Connection, BaseProcess] = {}
    running: dict[Connection, optuna.Trial] = {}

    def give_work(connection: Connection) -> None:
        if (number := next(left, None)) is not None:
            running[connection] = trial = _ask(study, ranges, seed, number)
            with suppress(OSError):  # it has died, which is noticed when its answer is read
                connection.send(trial.params)

    try:
        for _ in range(min(jobs, trials - len(done))):
            connection, process = _start(objective)
            processes[connection] = process
            give_work(connection)
        while running:
            for connection in cast(list[Connection], wait(list(running))):
                try:
                    answer = connection.recv()
                except (EOFError, OSError):
                    processes[connection].join()
                    code = processes[connection].exitcode
                    raise WorkerDiedError(f"a process of the search ended with exit code {code}") from None
                if isinstance(answer, Exception):
                    raise answer
                trial = running.pop(connection)
                trial.set_user_attr("train", answer[0])
                trial.set_user_attr("validation", answer[1])
                study.tell(trial, answer[1][-1])
                after_trial()
                give_work(connection)
    finally:
        for process in processes.values():
            process.terminate()
            process.join()
