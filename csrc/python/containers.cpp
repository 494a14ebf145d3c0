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

Restored::Restored(const std::vector<py::object>& dicts) {
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

static void require_length(const char* name, std::size_t length, std::size_t expected) {
    if (length != expected)
        throw py::value_error(std::string(name) + " has length " + std::to_string(length) + ", params has " +
                              std::to_string(expected));
}

py::object element_of(const char* name, const py::object& container, const Pair& pair, std::size_t count) {
    if (py::isinstance<py::dict>(container)) {
        const py::object value = look_up(container, pair.key);
        if (!value)
            throw py::key_error(std::string(name) + " lacks " + text(py::repr(pair.key)) + ", which params has");
        return value;
    }
    if (!is_list(container))
        throw py::type_error(std::string(name) + " is a " + type_name(container) + ", expected a dict, list or tuple");
    require_length(name, py::len(container), count);
    return container[py::int_(pair.index)];
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
    require_length("grads", gradients.size(), values.size());
    list.reserve(values.size());
    for (std::size_t i = 0; i < values.size(); ++i) list.push_back({py::int_(i), i, values[i], gradients[i]});
}

void Numbers::add(const Name& name, const py::object& key, const py::object& given, const py::array& array) {
    if (py::isinstance<py::tuple>(params_))
        throw py::type_error(name.text() + " is a " + type_name(given) + ", which can't be replaced in a tuple");
    list_.push_back({key, given, array});
}

void Numbers::require_replaceable() const {
    for (const Number& number : list_) {
        if (PyList_CheckExact(params_.ptr())) {
            const std::size_t index = number.key.cast<std::size_t>();
            if (index >= py::len(params_) || !py::object(params_[number.key]).is(number.given))
                throw py::value_error("params was changed during the update");
        } else if (!PyDict_CheckExact(params_.ptr()) || !is_plain_key(number.key)) {
            params_[number.key] = number.given;
        }
    }
}

void Numbers::replace() const {
    for (const Number& number : list_) {
        const py::object value = number.array[py::tuple()];
        params_[number.key] =
            PyFloat_CheckExact(number.given.ptr()) ? py::object(py::float_(value.cast<double>())) : value;
    }
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
