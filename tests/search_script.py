"""A search by `examples/lib/search.py` whose trials only sleep, for a test to kill: FILE, processes, seed are given."""

import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "examples"))

from lib.search import finished, open_study, search

TRIALS = 12
RANGES = {"lr": (1e-6, 1e-2), "weight_decay": (1e-8, 1e-4)}


def objective(params: dict[str, float]) -> tuple[list[float], list[float]]:
    # Long for seed 0's trial 0, so that it is the others that are finished when the search is killed.
    time.sleep(1 if 1.3e-4 < params["lr"] < 1.5e-4 else 0.05)
    return [params["lr"], 1.0], [params["weight_decay"], params["lr"]]


if __name__ == "__main__":
    path, jobs, seed = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    with open_study(path, {"seed": seed}) as study:
        search(study, objective, RANGES, trials=TRIALS, seed=seed, jobs=jobs, after_trial=lambda: None)
        print(len(finished(study, TRIALS)))
