// Parameters of PyTorch's optimizers that have the same hyper-parameters and kinds of state.
#pragma once

#include "bindings.hpp"

namespace fusedstep {

struct TensorGroup {
    // given: (rule, PyTorch's group, parameters, average or None, whether masters are kept, None or the seed of
    // stochastic rounding, None or the numbers of the parameters for that); rule: (name, own hyper-parameters, keys of
    // the state, how many of them are numbers, lr_decay). Keys are in the order of the state's dict: the numbers, which
    // are that of steps and the rule's scalars, then its states, for which None stands where these parameters have
    // none.
    explicit TensorGroup(const py::tuple& given);

    py::handle name(std::size_t i) const { return PyTuple_GET_ITEM(names.ptr(), static_cast<Py_ssize_t>(i)); }

    py::object rule_name, average, seed, order;
    py::dict group, own;
    py::list parameters;
    py::tuple names;  // of the state: then an average and a master, if there are
    std::size_t numbers, states;
    double lr_decay;
    bool has_masters;
};

}  // namespace fusedstep
