"""Parameters that change places with their averages."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

from numpy.typing import NDArray

from fusedstep import _native
from fusedstep._types import Params


@contextlib.contextmanager
def exchanged(params: Params, averages: Callable[[], dict[Any, NDArray[Any]]]) -> Iterator[None]:
    """Gives parameters the values of averages, and back."""
    arrays = {key: array.copy("K") for key, array in averages().items()}
    if not arrays:
        raise ValueError("there are no averages: no update has had the option average")
    _native.exchange(params, arrays)
    try:
        yield
    finally:
        _native.exchange(params, arrays)
