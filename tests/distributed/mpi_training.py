"""What test_mpi.py starts: a training that saves its state every few steps, goes on from there, and may be killed.

Arguments: the folder, the number of steps, and if a process dies, which, after how many saves and milliseconds.
"""

import contextlib
import os
import signal
import sys
import threading
from pathlib import Path

import numpy as np
from mpi4py import MPI

import fusedstep as fs
from fusedstep.distributed import Sharded
from sharded_cases import arrays, grads_of

comm = MPI.COMM_WORLD
rank = comm.Get_rank()
folder = Path(sys.argv[1])
fs.set_num_threads(1)
sharded, params, step = Sharded(fs.AdamW(average=0.9), comm), arrays(0), 0
with contextlib.suppress(FileNotFoundError):
    step = int((folder / "step").read_text())
if step:
    saved = np.load(folder / f"params{step}.npz")
    params = {key: saved[key] for key in params}
    sharded.load_state(folder / f"state{step}")
dies, saves, milliseconds = map(int, sys.argv[3:]) if len(sys.argv) > 3 else (-1, 0, 0)
while step < int(sys.argv[2]):
    if saves == 0 and rank == dies:
        threading.Timer(milliseconds / 1000, os.kill, (os.getpid(), signal.SIGKILL)).start()
        dies = -1
    sharded.update(params, grads_of(step, rank))
    step += 1
    if step % 5 == 0:
        sharded.save_state(folder / f"state{step}", per_rank=step % 2 == 0)
        if rank == 0:
            np.savez(folder / f"params{step}.npz", **params)
            (folder / "step.new").write_text(str(step))
            (folder / "step.new").replace(folder / "step")  # from here on, this step is the last
            for old in folder.glob(f"*{step - 10}*"):
                if f"state{step - 10}" in old.name or f"params{step - 10}" in old.name:
                    old.unlink()
        comm.Barrier()
        saves -= 1
state = {f"{key} {letter}": a for key, of_one in sharded.state_dict()["state"].items() for letter, a in of_one.items()}
if rank == 0:
    np.savez(folder / "result.npz", **params, **state)
comm.Barrier()
os._exit(0)  # without waiting for the timer
