#include "containers.hpp"

#include <pybind11/critical_section.h>

#include <string>
#include <utility>

namespace fusedstep {

bool is_list(py::handle object) {
    return py::isinstance<py::list>(object) || py::isinstance<py::tuple>(object);
}

py::object find_in_dict(const py::object& dict, const py::object& key) {
#if PY_VERSION_HEX >= 0x030D0000
    PyObject* found = nullptr;  // not borrowed: without a GIL another thread could free it at once
    PyDict_GetItemRef(dict.ptr(), key.ptr(), &found);
    auto value = py::reinterpret_steal<py::object>(found);
#else
    auto value = py::reinterpret_borrow<py::object>(PyDict_GetItemWithError(dict.ptr(), key.ptr()));
#endif
    if (!value && PyErr_Occurred()) throw py::error_already_set();
    return value;
}

Restored::Restored(std::initializer_list<py::object> dicts) {
    for (const py::object& dict : dicts) {
        if (!dict) continue;
        auto copy = py::reinterpret_steal<py::object>(PyDict_Copy(dict.ptr()));
        if (!copy) throw py::error_already_set();
        before_.emplace_back(dict, std::move(copy));
    }
}

Restored::~Restored() {
    for (const auto& [dict, before] : before_) {
        PyDict_Clear(dict.ptr());
        if (PyDict_Update(dict.ptr(), before.ptr()) != 0) PyErr_Clear();  // the error on its way matters more
    }
}

// As container[key] has it, where the type of a dict may look things up in its own way.
static py::object look_up(const py::object& dict, const py::object& key) {
    if (PyDict_CheckExact(dict.ptr())) return find_in_dict(dict, key);
    auto value = py::reinterpret_steal<py::object>(PyObject_GetItem(dict.ptr(), key.ptr()));
    if (!value && !PyErr_ExceptionMatches(PyExc_KeyError)) throw py::error_already_set();
    PyErr_Clear();
    return value;
}

py::object element_of(const char* name, const py::object& container, const Pair& pair) {
    if (py::isinstance<py::dict>(container)) return look_up(container, pair.key);
    if (!is_list(container))
        throw py::type_error(std::string(name) + " is a " + type_name(container) + ", expected a dict, list or tuple");
    return pair.index < py::len(container) ? py::object(container[py::int_(pair.index)]) : py::object();
}

Pairs::Pairs(const py::object& params, const py::object& grads, Shared& single) {
    if (py::isinstance<py::dict>(params)) {
        collect_from_dict(params, grads);
    } else if (is_list(params)) {
        collect_from_list(params, grads);
    } else if (single.take({"params"}, params)) {
        is_single = true;
        list.push_back({py::int_(0), 0, params, grads});
    } else {
        throw py::type_error("params is a " + type_name(params) +
                             ", expected a dict, list or tuple of arrays, or one array");
    }
}

void Pairs::collect_from_dict(const py::object& params, const py::object& grads) {
    if (!py::isinstance<py::dict>(grads))
        throw py::type_error("params is a " + type_name(params) + ", grads is a " + type_name(grads));
    list.reserve(py::len(params));
    // All pairs before the first lookup, because a key's __eq__ could change the dict.
    if (PyDict_CheckExact(params.ptr())) {
        const py::scoped_critical_section locked(params);
        for (const auto& [key, value] : py::reinterpret_borrow<py::dict>(params))
            list.push_back(
                {py::reinterpret_borrow<py::object>(key), list.size(), py::reinterpret_borrow<py::object>(value), {}});
    } else {  // it may have an order and values of its own
        for (const py::handle key : py::list(params))
            list.push_back({py::reinterpret_borrow<py::object>(key), list.size(), params[key], {}});
    }
    for (Pair& pair : list) {
        pair.gradient = look_up(grads, pair.key);
        if (!pair.gradient) throw py::key_error("grads lacks " + text(py::repr(pair.key)) + ", which params has");
    }
}

void Pairs::collect_from_list(const py::object& params, const py::object& grads) {
    if (!is_list(grads)) throw py::type_error("params is a " + type_name(params) + ", grads is a " + type_name(grads));
    const py::tuple values(params), gradients(grads);  // asking an element for its memory may resize a list
    if (gradients.size() < values.size())
        throw py::key_error("grads has length " + std::to_string(gradients.size()) + ", params has " +
                            std::to_string(values.size()));
    list.reserve(values.size());
    for (std::size_t i = 0; i < values.size(); ++i) list.push_back({py::int_(i), i, values[i], gradients[i]});
}

}  // namespace fusedstep
