// Parameters and gradients as they come from Python: dicts, lists and tuples of arrays, or one array.
#pragma once

#include <utility>
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

// What a dict has for the key of a parameter, or a list or tuple at its place; null if it has nothing there.
py::object element_of(const char* name, const py::object& container, const Pair& pair);

// ValueError if parameters would get new state because saved keys came back as other ones, like 0 as "0" from JSON.
// made: the new state by key, one of `count` parameters each.
void refuse_keys_of_json(const py::object& state, const std::vector<std::pair<py::object, py::dict>>& made,
                         std::size_t count);

}  // namespace fusedstep
