"""Training on several processes with MPI: optimizers whose state is shared out, batch normalisation over all data.

It needs mpi4py, which isn't imported here: `pip install "fusedstep[mpi]"`.
"""

from fusedstep.distributed.batch_norm import SyncBatchNorm
from fusedstep.distributed.communicators import Communicator, Request, Serial
from fusedstep.distributed.sharded import Sharded

__all__ = ["Communicator", "Request", "Serial", "Sharded", "SyncBatchNorm"]
