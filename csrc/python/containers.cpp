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

py::object element_of(const char* name, const py::object& container, const Pair& pair) {
    if (py::isinstance<py::dict>(container)) return find_in_dict(container, pair.key);
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
    } else {  // an OrderedDict has an order of its own
        for (const py::handle item : params.attr("items")()) {
            const auto pair = py::reinterpret_borrow<py::sequence>(item);
            list.push_back({pair[0], list.size(), pair[1], {}});
        }
    }
    for (Pair& pair : list) {
        pair.gradient = find_in_dict(grads, pair.key);
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

// 0 for "0", "0" for 0; null for other keys.
static py::object twin_of(const py::object& key) {
    if (PyLong_CheckExact(key.ptr())) return py::str(key);
    if (!PyUnicode_CheckExact(key.ptr())) return {};
    auto number = py::reinterpret_steal<py::object>(PyLong_FromUnicodeObject(key.ptr(), 10));
    if (!number) PyErr_Clear();
    return number && py::str(number).equal(key) ? number : py::object();  // not 7 for "07"
}

void refuse_keys_of_json(const py::object& state, const std::vector<std::pair<py::object, py::dict>>& made,
                         std::size_t count) {
    if (made.empty() || py::len(state) == 0) return;
    std::vector<std::pair<py::object, py::object>> twins;
    bool from_texts = false;
    for (const auto& [key, arrays] : made) {
        py::object twin = twin_of(key);
        if (!twin || !find_in_dict(state, twin)) continue;
        from_texts = from_texts || PyUnicode_Check(twin.ptr());
        twins.emplace_back(key, std::move(twin));
    }
    // A list after a dict with such keys is no mistake unless all of it would start again.
    if (twins.empty() || (!from_texts && twins.size() < count)) return;
    throw py::value_error("state has no key " + text(py::repr(twins[0].first)) + ", but has " +
                          text(py::repr(twins[0].second)) + ", as after JSON, which has only texts as keys (" +
                          std::to_string(twins.size()) + " of " + std::to_string(count) + " parameters)");
}

}  // namespace fusedstep
