"""What the second volume's trainers do with gradients, for gradients that are rows too."""

from typing import Any

import numpy as np

from fusedstep.book._gradient import RowsGradient


def _is_transposed(first: Any, second: Any) -> bool:
    return first.ndim == second.ndim == 2 and first.T.shape == second.shape and bool(np.all(second == first.T))


def remove_duplicate(params: list[Any], grads: list[Any]) -> tuple[list[Any], list[Any]]:
    """The parameters without repetitions, and their gradients, the first of which has the others added to it.

    A matrix that equals another one transposed counts as the same too. Gradients that are rows stay so.
    """
    params, grads = params[:], grads[:]
    i = 0
    while i < len(params):
        j = i + 1
        while j < len(params):
            if params[i] is params[j]:
                grads[i] += grads[j]
            elif _is_transposed(params[i], params[j]):
                grads[i] += grads[j].T
            else:
                j += 1
                continue
            del params[j], grads[j]
        i += 1
    return params, grads


def clip_grads(grads: list[Any], max_norm: float) -> None:
    """Scales gradients in place so that the norm of all of them together is at most max_norm.

    Of a gradient that is rows, the norm is that of the array, summed in another order.
    """
    total: Any = 0
    for grad in grads:
        total += np.sum((grad.sums() if isinstance(grad, RowsGradient) else grad) ** 2)
    rate = max_norm / (np.sqrt(total) + 1e-6)
    if rate < 1:
        for grad in grads:
            grad *= rate
