#include "containers.hpp"

#include <pybind11/critical_section.h>

#include <algorithm>
#include <optional>
#include <string>
#include <utility>

#include "settings.hpp"

namespace fusedstep {

bool is_list(py::handle object) {
    return py::isinstance<py::list>(object) || py::isinstance<py::tuple>(object);
}

bool is_plain_path(py::handle key) {
    if (!PyTuple_CheckExact(key.ptr())) return false;
    const auto path = py::reinterpret_borrow<py::tuple>(key);
    return std::all_of(path.begin(), path.end(), is_text_or_integer);
}

py::object find_in_dict(const py::object& dict, py::handle key) {
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

py::object find_in_order(const py::object& dict, py::handle key, Py_ssize_t& place) {
#ifndef Py_GIL_DISABLED
    PyObject *next = nullptr, *value = nullptr;
    Py_ssize_t after = place;
    if (PyDict_Next(dict.ptr(), &after, &next, &value) != 0 && next == key.ptr()) {
        place = after;
        return py::reinterpret_borrow<py::object>(value);
    }
#endif
    return find_in_dict(dict, key);
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
static py::object look_up(const py::object& dict, py::handle key) {
    if (PyDict_CheckExact(dict.ptr())) return find_in_dict(dict, key);
    auto value = py::reinterpret_steal<py::object>(PyObject_GetItem(dict.ptr(), key.ptr()));
    if (!value && !PyErr_ExceptionMatches(PyExc_KeyError)) throw py::error_already_set();
    PyErr_Clear();
    return value;
}

static py::handle last(py::handle path) {
    return PyTuple_GET_ITEM(path.ptr(), PyTuple_GET_SIZE(path.ptr()) - 1);
}

// What an error calls it.
static std::string shown(const char* outermost, const Container& container) {
    return Name{outermost, container.path, {}, true}.text();
}

static void require_length(const char* name, const Container& container, std::size_t length) {
    if (length != container.length)
        throw py::value_error(shown(name, container) + " has length " + std::to_string(length) + ", " +
                              shown("params", container) + " has " + std::to_string(container.length));
}

// From a dict in the place of a container of parameters.
static py::object find(const char* name, const Container& container, const py::object& dict, py::handle key) {
    py::object value = look_up(dict, key);
    if (!value)
        throw py::key_error(shown(name, container) + " lacks " + text(py::repr(key)) + ", which " +
                            shown("params", container) + " has");
    return value;
}

static py::object element_of(const char* name, const py::object& outermost, const Container& container, py::handle key,
                             std::size_t index) {
    const py::object inner = container.outer
                                 ? element_of(name, outermost, *container.outer, last(container.path), container.index)
                                 : outermost;
    if (py::isinstance<py::dict>(inner)) return find(name, container, inner, key);
    if (!is_list(inner))
        throw py::type_error(shown(name, container) + " is a " + type_name(inner) + ", expected a dict, list or tuple");
    require_length(name, container, py::len(inner));
    return inner[py::int_(index)];
}

py::object element_of(const char* name, const py::object& outermost, const Pair& pair) {
    return element_of(name, outermost, *pair.container, pair.key_in_container(), pair.index);
}

py::handle Pair::key_in_container() const {
    return is_nested() ? last(key) : py::handle(key);
}

static bool is_container(py::handle object) {
    constexpr unsigned long kKinds = Py_TPFLAGS_DICT_SUBCLASS | Py_TPFLAGS_LIST_SUBCLASS | Py_TPFLAGS_TUPLE_SUBCLASS;
    return PyType_HasFeature(Py_TYPE(object.ptr()), kKinds) != 0;
}

Pairs::Pairs(const py::object& params, const py::object& grads, Shared& single) {
    containers.push_back({nullptr, params, py::tuple(), 0, 1});
    if (is_container(params)) {
        collect(containers.back(), grads);
    } else if (single.take({"params"}, params)) {
        is_single = true;
        list.push_back({py::int_(0), 0, params, grads, &containers.back()});
    } else {
        throw py::type_error("params is a " + type_name(params) +
                             ", expected a dict, list or tuple of arrays, or one array");
    }
}

// The key of the state of the element of a container that has this key.
static py::object key_of_state(const Container& container, py::handle key) {
    if (!container.outer) return py::reinterpret_borrow<py::object>(key);
    return container.path + py::make_tuple(key);
}

static py::object element(const py::tuple& tuple, std::size_t i) {
    return py::reinterpret_borrow<py::object>(PyTuple_GET_ITEM(tuple.ptr(), static_cast<Py_ssize_t>(i)));
}

static std::vector<Pair> pairs_of_list(const Container& container) {
    const py::tuple values(container.object);  // asking an element for its memory may resize a list
    std::vector<Pair> pairs;
    pairs.reserve(values.size());
    for (std::size_t i = 0; i < values.size(); ++i)
        pairs.push_back({key_of_state(container, py::int_(i)), i, element(values, i), {}, &container});
    return pairs;
}

static std::vector<Pair> pairs_of_dict(const Container& container) {
    const py::object& params = container.object;
    std::vector<Pair> pairs;
    pairs.reserve(py::len(params));
    const auto add = [&](py::handle key, py::object value) {
        pairs.push_back({key_of_state(container, key), pairs.size(), std::move(value), {}, &container});
    };
    // All pairs before the first lookup, because a key's __eq__ could change the dict.
    if (PyDict_CheckExact(params.ptr())) {
        const py::scoped_critical_section locked(params);
        for (const auto& [key, value] : py::reinterpret_borrow<py::dict>(params))
            add(key, py::reinterpret_borrow<py::object>(value));
    } else {  // it may have an order and values of its own
        for (const py::handle key : py::list(params)) add(key, params[key]);
    }
    return pairs;
}

void Pairs::collect(Container& container, const py::object& grads) {
    constexpr std::size_t kMostDepth = 100;
    if (container.path.size() > kMostDepth)
        throw py::value_error("params is nested more than " + std::to_string(kMostDepth) + " deep, or contains itself");
    const bool ordered = is_list(container.object);
    std::vector<Pair> own = ordered ? pairs_of_list(container) : pairs_of_dict(container);
    container.length = own.size();
    if (grads.is_none() && container.outer) {
        for (Pair& pair : own) pair.gradient = grads;
    } else if (ordered ? !is_list(grads) : !py::isinstance<py::dict>(grads)) {
        throw py::type_error(shown("params", container) + " is a " + type_name(container.object) + ", " +
                             shown("grads", container) + " is a " + type_name(grads));
    } else if (ordered) {
        const py::tuple gradients(grads);
        require_length("grads", container, gradients.size());
        for (Pair& pair : own) pair.gradient = element(gradients, pair.index);
    } else {
        for (Pair& pair : own) pair.gradient = find("grads", container, grads, pair.key_in_container());
    }
    const bool nested =
        std::any_of(own.begin(), own.end(), [](const Pair& pair) { return is_container(pair.parameter); });
    if (!nested && list.empty()) {
        list = std::move(own);
        return;
    }
    for (Pair& pair : own) {
        if (!is_container(pair.parameter)) {
            list.push_back(std::move(pair));
            continue;
        }
        const py::tuple path = container.outer ? py::tuple(pair.key) : py::make_tuple(pair.key);
        containers.push_back({&container, pair.parameter, path, pair.index, 0});
        collect(containers.back(), pair.gradient);
    }
}

// A tuple as a key in params can be the path to another parameter.
void Pairs::require_distinct_keys() const {
    py::dict tuples;
    for (const Pair& pair : list)
        if (!pair.is_nested() && py::isinstance<py::tuple>(pair.key)) tuples[pair.key] = py::none();
    if (tuples.empty()) return;
    for (const Pair& pair : list)
        if (pair.is_nested() && find_in_dict(tuples, pair.key))
            throw py::value_error("the state of params[" + text(py::repr(pair.key)) + "] and of " +
                                  pair.name("params").text() + " would have one key");
}

py::object Pairs::changed_lengths(const py::object& optimizer) const {
    if (containers.size() > 1) require_distinct_keys();
    py::object known;
    std::optional<py::dict> changed;
    for (const Container& container : containers) {
        if (!is_list(container.object)) continue;
        if (!known) known = Attributes(optimizer)[optimizer_names().lengths];
        const py::object before = find_in_dict(known, container.path);
        if (before && PyLong_AsSize_t(before.ptr()) == container.length) continue;
        if (!changed) changed.emplace();
        (*changed)[container.path] = container.length;
    }
    return changed ? optimizer.attr("_checked_lengths")(*changed) : py::object();
}

py::array Numbers::add(const Name& name, const Pair& pair) {
    const py::object& container = pair.container->object;
    if (py::isinstance<py::tuple>(container))
        throw py::type_error(name.text() + " is a " + type_name(pair.parameter) +
                             ", which can't be replaced in a tuple");
    if (pair.is_nested()) {
        const auto [place, is_new] = nested_.try_emplace({container.ptr(), pair.index}, list_.size());
        if (!is_new) return list_[place->second].array;
    }
    list_.push_back({&pair, array_of_number(name, pair.parameter)});
    return list_.back().array;
}

void Numbers::require_replaceable() const {
    for (const auto& [pair, array] : list_) {
        const py::object& container = pair->container->object;
        const py::handle key = pair->key_in_container();
        if (PyList_CheckExact(container.ptr())) {
            if (pair->index >= py::len(container) || !py::object(container[key]).is(pair->parameter))
                throw py::value_error("params was changed during the update");
        } else if (!PyDict_CheckExact(container.ptr()) || !is_plain_key(key)) {
            container[key] = pair->parameter;
        }
    }
}

void Numbers::replace() const {
    for (const auto& [pair, array] : list_) {
        const py::object value = array[py::tuple()];
        pair->container->object[pair->key_in_container()] =
            PyFloat_CheckExact(pair->parameter.ptr()) ? py::object(py::float_(value.cast<double>())) : value;
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
