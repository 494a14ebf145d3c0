"""What test_mpi.py starts in several processes: all rules, options of all kinds, types, the layer."""

from typing import Any

import numpy as np
import pytest
from mpi4py import MPI

import fusedstep as fs
from cases import ROWS
from fusedstep.distributed import Sharded, SyncBatchNorm
from sharded_cases import arrays, assert_same_params, check, summed


def steps(comm: Any) -> None:
    for row in ROWS:
        for options in ({}, {"clip_norm": 0.7, "skip_nonfinite": True, "weight_decay": 0.1}, {"average": 0.9}):
            check(comm, lambda row=row, options=options: row.optimizer(**options), bad=np.nan, steps=3)
    for dtype in (np.float16, np.float32, np.float64):
        for grad_dtype in (np.float16, np.float32, np.float64):
            check(comm, lambda: fs.Adam(clip_norm=1.0), dtype=dtype, grad_dtype=grad_dtype, copies=np.float32)
    check(comm, lambda: fs.AdamW(rounding="stochastic", seed=3), dtype=np.float16)
    check(comm, lambda: fs.Split([(lambda key, w: w.ndim == 2, fs.Muon()), (lambda key, w: True, fs.AdamW())]))


def reduction_of_mpi(comm: Any) -> None:
    ours, theirs = arrays(0, np.float64), arrays(0, np.float64)
    every = [arrays(rank + 1, np.float64) for rank in range(comm.Get_size())]
    Sharded(fs.SGD(1.0), comm, reduction="mpi", bucket_bytes=4096).update(ours, every[comm.Get_rank()])
    fs.SGD(1.0).update(theirs, summed(every, theirs), scale=1 / comm.Get_size())
    for key, array in theirs.items():
        np.testing.assert_allclose(ours[key], array, rtol=0, atol=24 * comm.Get_size() * 2.0**-53)


def errors(comm: Any) -> None:
    params, grads = arrays(0), arrays(1)
    if comm.Get_rank() == comm.Get_size() - 1:
        grads["bias"] = np.ones(3, np.float32)
    with pytest.raises(ValueError, match=r"grads\['bias'\] has shape \(3,\)"):
        Sharded(fs.Adam(), comm).update(params, grads)
    assert_same_params(params, arrays(0))


def layer(comm: Any) -> None:
    x = np.random.default_rng(0).standard_normal((12, 5, 7))
    own = np.array_split(x, comm.Get_size())[comm.Get_rank()]
    alone, synchronised = fs.BatchNorm(5, dtype=np.float64), SyncBatchNorm(5, comm, dtype=np.float64)
    y, dx = alone.forward(x), alone.backward(x)
    atol = 100 * 2.0**-52  # numbers up to 4 that are off by a few units
    np.testing.assert_allclose(
        synchronised.forward(own), np.array_split(y, comm.Get_size())[comm.Get_rank()], atol=atol
    )
    np.testing.assert_allclose(
        synchronised.backward(own), np.array_split(dx, comm.Get_size())[comm.Get_rank()], atol=atol
    )
    np.testing.assert_allclose(synchronised.running_var, alone.running_var, rtol=1e-14)


world = MPI.COMM_WORLD
fs.set_num_threads(1)
for each in (steps, reduction_of_mpi, errors, layer):
    each(world)
print("right", flush=True)
