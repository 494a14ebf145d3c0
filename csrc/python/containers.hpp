// Parameters and gradients as they come from Python: dicts, lists and tuples, in one another, of arrays, or one array.
#pragma once

#include <list>
#include <map>
#include <utility>
#include <vector>

#include "shared.hpp"

namespace fusedstep {

// params, or a container inside it.
struct Container {
    const Container* outer;  // null for params
    py::object object;
    py::tuple path;             // the keys that lead from params to it
    std::size_t index, length;  // in the outer one; of its own
};

// A parameter with its gradient, not looked at yet.
struct Pair {
    py::object key;     // of its state: its key in params, or the path to it as a tuple
    std::size_t index;  // in its container
    py::object parameter, gradient;
    const Container* container;
    std::size_t member = 0;                        // of the step, unless it goes by the key
    std::size_t tensors = 0;                       // of its state, the number of the first in Pairs::tensors
    bool is_new = false, has_new_average = false;  // of that state

    bool is_nested() const { return container->outer != nullptr; }
    py::handle key_in_container() const;
    Name name(const char* outermost) const { return {outermost, key, {}, is_nested()}; }
};

struct TensorGroup;

struct Pairs {
    // single: becomes the parameter where `params` is no container.
    Pairs(const py::object& params, const py::object& grads, Shared& single);

    // Of groups of PyTorch's, each a member of the step. state: by parameter; start, resolve: see tensor_groups.cpp.
    Pairs(const std::vector<TensorGroup>& groups, const py::dict& state, const py::object& start,
          const py::object& resolve);
    Pairs(const Pairs&) = delete;
    Pairs& operator=(const Pairs&) = delete;

    // For an optimizer with state: what its `_lengths` are to become, or null if they stay; ValueError if the state is
    // that of lists of other lengths, or two parameters would have the same.
    py::object changed_lengths(const py::object& optimizer) const;

    std::vector<Pair> list;
    std::list<Container> containers;  // params first
    bool is_single = false;

    // The state of tensors, and what has been made of it but isn't in `state` yet: by parameter, for its dict or null.
    struct Started {
        std::size_t pair;
        py::object dict, made;
    };
    std::vector<py::object> tensors;
    std::vector<Started> started;

  private:
    void collect(Container& container, const py::object& grads);
    void find_tensors(Pair& pair, const TensorGroup& group, const py::object& own, const py::object& start);
    void require_distinct_keys() const;
};

bool is_list(py::handle object);  // or a tuple

// Whether neither hash nor comparison runs Python's code.
inline bool is_text_or_integer(py::handle key) {
    return PyUnicode_CheckExact(key.ptr()) || PyLong_CheckExact(key.ptr());
}
bool is_plain_path(py::handle key);  // a tuple of these
inline bool is_plain_key(py::handle key) {
    return is_text_or_integer(key) || is_plain_path(key);
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
py::object find_in_dict(const py::object& dict, py::handle key);

// The same for keys that come in the dict's own order, as nearly all do: without a hash, which for a tensor is Python's
// code. place: 0 at first, for the next key.
py::object find_in_order(const py::object& dict, py::handle key, Py_ssize_t& place);

// A parameter's element in containers nested as params is: of a dict by its key, of a list or tuple, whose length must
// be that of the container in params, by its index. KeyError or ValueError if there is none.
py::object element_of(const char* name, const py::object& outermost, const Pair& pair);

// Parameters that are numbers: new ones take their places after the step.
class Numbers {
  public:
    bool empty() const { return list_.empty(); }

    // An array without dimensions, which is stepped: one for all occurrences of a number whose container occurs more
    // than once. TypeError in a tuple. The pair must outlive this.
    py::array add(const Name& name, const Pair& pair);

    // An error if they are no longer where they were. A container of a type of its own says whether it takes a number
    // by taking the old one.
    void require_replaceable() const;

    void replace() const;

  private:
    struct Number {
        const Pair* pair;
        py::array array;
    };

    std::vector<Number> list_;
    std::map<std::pair<PyObject*, std::size_t>, std::size_t> nested_;  // in list_, by container and index
};

// ValueError if parameters would get new state because saved keys came back as other ones, like 0 as "0" from JSON.
// made: the new state by key, one of `count` parameters each.
void refuse_keys_of_json(const py::object& state, const std::vector<std::pair<py::object, py::dict>>& made,
                         std::size_t count);

}  // namespace fusedstep
