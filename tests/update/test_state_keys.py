"""State under keys that came back from JSON as texts."""

from typing import Any

import numpy as np
import pytest

import fusedstep as fs


def with_keys(keys: list[Any]) -> fs.Adam:
    optimizer = fs.Adam()
    params = {key: np.ones(2) for key in keys}
    optimizer.update(params, params)
    return optimizer


@pytest.mark.parametrize(
    ("saved", "params", "message"),
    [
        (["0", "1"], [0, 1], r"state has no key 0, but has '0', .* \(2 of 2 parameters\)"),
        (["W", "0"], ["W", 0], r"state has no key 0, but has '0', .* \(1 of 2 parameters\)"),
        ([0, 1], ["0", "1"], r"state has no key '0', but has 0, .* \(2 of 2 parameters\)"),
        (["-3"], [-3], r"state has no key -3, but has '-3'"),
        ([0, 1], ["0", "W"], None),
        (["W"], [0, "b"], None),
        ([0], ["\u0660"], None),
        ([0], ["00", "1" * 5000, "zero"], None),
    ],
)
def test_keys_that_came_back_as_texts(saved: list[Any], params: list[Any], message: str | None) -> None:
    optimizer = with_keys(saved)
    new = {key: np.ones(2) for key in params}
    if message is None:
        return optimizer.update(new, new)
    before = optimizer.state_dict()
    with pytest.raises(ValueError, match=message):
        optimizer.update(new, {key: np.ones(2) for key in params})
    np.testing.assert_equal(optimizer.state_dict(), before)
    assert all((w == 1).all() for w in new.values())
    optimizer.update({key: np.ones(2) for key in saved}, {key: np.ones(2) for key in saved})
    return None
