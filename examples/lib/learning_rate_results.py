"""What `learning_rates.py` finds: losses and accuracy of each training, and what the first fall of the rate changed."""

from dataclasses import dataclass

import numpy as np

from lib.loop import History

LAST = 5  # epochs that are averaged


@dataclass(frozen=True)
class Result:
    """One training: the learning rate of each update, and what came of it."""

    name: str
    rates: list[float]
    history: History

    @property
    def losses(self) -> list[float]:
        """The mean loss of each epoch's batches."""
        epochs = len(self.history.test)
        return [float(loss) for loss in np.reshape(self.history.losses, (epochs, -1)).mean(axis=1)]

    @property
    def test(self) -> float:
        """The accuracy, from 0 to 1, on the test images, the mean of the last epochs."""
        return float(np.mean(self.history.test[-LAST:]))


def first_step(results: list[Result]) -> tuple[int, float, float, float] | None:
    """After how many epochs the rate falls to a tenth; the loss before, as long again after, and then without that.

    Each is the mean of five epochs, the last of their period. None if the training is too short to say.
    """
    constant, steps = results[:2]
    quarter = len(steps.losses) // 4
    if quarter < 1:
        return None
    start = quarter - min(quarter, LAST)
    before, after, stays = (
        float(np.mean(r.losses[start + shift : quarter + shift]))
        for r, shift in ((steps, 0), (steps, quarter), (constant, quarter))
    )
    return quarter, before, after, stays
