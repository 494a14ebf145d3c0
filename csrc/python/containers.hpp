// Parameters and gradients as they come from Python: dicts, lists and tuples of arrays, or one array.
#pragma once

#include <vector>

#include "shared.hpp"

namespace fusedstep {

// A parameter with its gradient, not looked at yet.
struct Pair {
    py::object key;
    std::size_t index;
    py::object parameter, gradient;
};

struct Pairs {
    // single: becomes the parameter where `params` is no container.
    Pairs(const py::object& params, const py::object& grads, Shared& single);

    std::vector<Pair> list;
    bool is_single = false;

  private:
    void collect_from_dict(const py::object& params, const py::object& grads);
    void collect_from_list(const py::object& params, const py::object& grads);
};

bool is_list(py::handle object);  // or a tuple

// The value of a key, or null.
py::object find_in_dict(const py::object& dict, const py::object& key);

// A parameter's element: of a dict by its key, of a list or tuple, whose length must be the number of parameters, by
// its index. KeyError or ValueError if there is none.
py::object element_of(const char* name, const py::object& container, const Pair& pair, std::size_t count);

}  // namespace fusedstep
