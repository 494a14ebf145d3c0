// Parameters and gradients as they come from Python: dicts, lists and tuples of arrays, or one array.
#pragma once

#include <initializer_list>
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

// Whether neither hash nor comparison runs Python's code.
inline bool is_plain_key(py::handle key) {
    return PyUnicode_CheckExact(key.ptr()) || PyLong_CheckExact(key.ptr());
}

// Gives dicts (or nulls) back what they had, unless it is told to keep what they have. By copies, which ask no key for its hash.
class Restored {
  public:
    explicit Restored(std::initializer_list<py::object> dicts);
    Restored(const Restored&) = delete;
    Restored& operator=(const Restored&) = delete;
    ~Restored();

    void keep() { before_.clear(); }

  private:
    std::vector<std::pair<py::object, py::object>> before_;
};

// The value of a key, or null.
py::object find_in_dict(const py::object& dict, const py::object& key);

// What a dict has for the key of a parameter, or a list or tuple at its place; null if it has nothing there.
py::object element_of(const char* name, const py::object& container, const Pair& pair);

}  // namespace fusedstep
