// What a step gets besides the arrays: the rule, its hyper-parameters, counts.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "bindings.hpp"
#include "rules.hpp"

namespace fusedstep {

// ValueError if there is none of that name, TypeError if it is no text.
const Rule& rule_of(const py::object& name);

// A rule's names as Python's strings.
struct Names {
    py::object rule;
    std::vector<py::object> states, hyperparameters, scalars;
};

const Names& names_of(const Rule& rule);

// Names of an optimizer's attributes, and of what a parameter's state has besides the rule's, as Python's strings.
struct OptimizerNames {
    py::object rule, lr, count_updates, state, steps, iterations, lengths, average, master;
};

const OptimizerNames& optimizer_names();

// Reads attributes of an optimizer: in a third of the time where they are in its own dict, as nearly all are.
class Attributes {
  public:
    explicit Attributes(const py::object& optimizer)
        : optimizer_(optimizer),
          own_(py::reinterpret_steal<py::object>(PyObject_GenericGetDict(optimizer.ptr(), nullptr))) {
        if (!own_) throw py::error_already_set();
    }

    py::object operator[](const py::object& name) const;

  private:
    const py::object& optimizer_;
    const py::object own_;
};

// A hyper-parameter as a number; the error of Python's own check, which calls it by its name, if it is out of range.
double checked_value(const Hyperparameter& hyperparameter, const py::object& value, const Name& name);

inline double checked_value(const Hyperparameter& hyperparameter, const py::object& value) {
    return checked_value(hyperparameter, value, {hyperparameter.name});
}

// A number of a step, from 1. shown_name is that of the error.
std::int64_t checked_count(const std::string& shown_name, const py::object& value);

struct Settings {
    // What is not an optimizer's attribute.
    struct Given {
        double lr, scale = 1, average = kOff;
        bool has_options = false;  // else those that are no attributes of plain steps have their defaults
        py::object overrides;      // a dict of values that take the place of attributes and scale, or null
    };

    static Settings of_optimizer(const Rule& rule, const Attributes& attributes, const Given& given);

    // uses_t: whether anything but the rule does.
    static Settings of_call(const Rule& rule, const py::object& t, const py::dict& hyperparameters, bool uses_t);

    // Of a group of PyTorch's, which has checked the values that its optimizers were made with, and the rule's own.
    static Settings of_tensors(const Rule& rule, const py::dict& group, const py::dict& own);

    Values values;
    std::vector<std::pair<int, py::object>> own_values;  // hyper-parameters given for each array
    std::int64_t t = 0;                                  // of all arrays, if it is not 0
    py::object counts;                                   // t of each array, or the steps that each has had
};

// All rules, as _native.pyi describes them.
py::dict rule_table();

// The number after that of steps made; ValueError if it is no count.
std::int64_t next_step(const Name& name, const py::object& made);

}  // namespace fusedstep
