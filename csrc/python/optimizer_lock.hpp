// A lock for each optimizer, so that a snapshot that another thread takes is of one moment.
#pragma once

#include "bindings.hpp"

namespace fusedstep {

// Held from construction to destruction; the thread that holds it may take it again. The GIL is released only while
// another thread is waited for. Locks are in a table by address, because optimizers are copied and pickled.
class OptimizerLock {
  public:
    explicit OptimizerLock(py::handle optimizer);  // nothing is locked for None
    ~OptimizerLock();
    OptimizerLock(const OptimizerLock&) = delete;
    OptimizerLock& operator=(const OptimizerLock&) = delete;

  private:
    const PyObject* optimizer_;
};

}  // namespace fusedstep
