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

// Whether neither hash nor comparison runs Python's code.
inline bool is_plain_key(py::handle key) {
    return PyUnicode_CheckExact(key.ptr()) || PyLong_CheckExact(key.ptr());
}

// Gives dicts (or nulls) back what they had, unless it is told to keep what they have. By copies, which ask no key for
// its hash.
class Restored {
  public:
    explicit Restored(const std::vector<py::object>& dicts);
    Restored(const Restored&) = delete;
    Restored& operator=(const Restored&) = delete;
    ~Restored();

    void keep() { before_.clear(); }

  private:
    std::vector<std::pair<py::object, py::object>> before_;
};

// The value of a key, or null.
py::object find_in_dict(const py::object& dict, const py::object& key);

// A parameter's element: of a dict by its key, of a list or tuple, whose length must be the number of parameters, by
// its index. KeyError or ValueError if there is none.
py::object element_of(const char* name, const py::object& container, const Pair& pair, std::size_t count);

// Parameters that are numbers: new ones take their places after the step.
class Numbers {
  public:
    explicit Numbers(const py::object& params) : params_(params) {}

    bool empty() const { return list_.empty(); }

    // array: without dimensions, which is stepped. TypeError in a tuple.
    void add(const Name& name, const py::object& key, const py::object& given, const py::array& array);

    // An error if they are no longer where they were. A container of a type of its own says whether it takes a number
    // by taking the old one.
    void require_replaceable() const;

    void replace() const;

  private:
    struct Number {
        py::object key, given;
        py::array array;
    };

    const py::object params_;
    std::vector<Number> list_;
};

// ValueError if parameters would get new state because saved keys came back as other ones, like 0 as "0" from JSON.
// made: the new state by key, one of `count` parameters each.
void refuse_keys_of_json(const py::object& state, const std::vector<std::pair<py::object, py::dict>>& made,
                         std::size_t count);

}  // namespace fusedstep
