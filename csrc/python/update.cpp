// Updates: takes the arrays out of the containers, checks all of them before the first is written.
#include <pybind11/critical_section.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <utility>
#include <vector>

#include "arrays.hpp"
#include "dispatch.hpp"
#include "step.hpp"

namespace fusedstep {
namespace {

// A parameter that has a gradient.
struct Entry {
    py::object key;
    py::object number;  // what `parameter` was made of, if the parameter is a number
    py::array parameter = no_array(), gradient = no_array();
    py::array state[kMaxStates] = {no_array(), no_array()};
};
static_assert(kMaxStates == 2);

class Update {
  public:
    Update(const UpdateRule& rule, py::object params, py::object grads, const py::dict& attributes, py::tuple letters)
        : rule_(rule),
          params_(std::move(params)),
          grads_(std::move(grads)),
          attributes_(attributes),
          state_(attributes["state"]),
          letters_(std::move(letters)) {
        collect();
        for (Entry& entry : entries_) check(entry);
        items_.reserve(entries_.size());
        spans_.reserve(entries_.size() * (2 + rule_.states));
        for (const Entry& entry : entries_) plan(entry);
        in_order_ = any_meet(spans_);
    }

    // From here on nothing can fail but memory. The count of updates is moved here, not in Python, where an interrupt
    // could come between the step and the count.
    void run(bool l2, const double* coefficients) {
        const py::object count = py::object(attributes_["iterations"]) + py::int_(1);
        for (const auto& [key, arrays] : new_state_) state_[key] = arrays;
        {
            const py::gil_scoped_release released;
            update(rule_, l2, coefficients, items_, in_order_);
        }
        attributes_["iterations"] = count;
        for (const Entry& entry : entries_)
            if (entry.number) params_[entry.key] = updated_number(entry);
    }

  private:
    void collect() {
        if (py::isinstance<py::array>(params_)) {
            single_ = true;
            add(py::int_(0), params_, grads_);
        } else if (py::isinstance<py::dict>(params_)) {
            collect_from_dict();
        } else if (is_list(params_)) {
            collect_from_list();
        } else if (const py::array parameter = shared_array({"params"}, params_)) {
            single_ = true;
            add(py::int_(0), parameter, grads_);
        } else {
            throw py::type_error("params is a " + type_name(params_) +
                                 ", expected a dict, list or tuple of arrays, or one array");
        }
    }

    void collect_from_dict() {
        if (!py::isinstance<py::dict>(grads_))
            throw py::type_error("params is a " + type_name(params_) + ", grads is a " + type_name(grads_));
        std::vector<std::pair<py::object, py::object>> pairs;  // because a key's __eq__ could change the dict
        if (PyDict_CheckExact(params_.ptr())) {
            const py::scoped_critical_section locked(params_);
            for (const auto& [key, value] : py::reinterpret_borrow<py::dict>(params_))
                pairs.emplace_back(py::reinterpret_borrow<py::object>(key), py::reinterpret_borrow<py::object>(value));
        } else {  // an OrderedDict has an order of its own
            for (const py::handle item : params_.attr("items")()) {
                const auto pair = py::reinterpret_borrow<py::sequence>(item);
                pairs.emplace_back(pair[0], pair[1]);
            }
        }
        entries_.reserve(pairs.size());
        for (const auto& [key, value] : pairs) {
            const py::object gradient = find(grads_, key);
            if (!gradient) throw py::key_error("grads lacks " + text(py::repr(key)) + ", which params has");
            add(key, value, gradient);
        }
    }

    void collect_from_list() {
        if (!is_list(grads_))
            throw py::type_error("params is a " + type_name(params_) + ", grads is a " + type_name(grads_));
        const py::tuple values(params_), gradients(grads_);  // what is asked for its memory could change a list
        if (gradients.size() < values.size())
            throw py::key_error("grads has length " + std::to_string(gradients.size()) + ", params has " +
                                std::to_string(values.size()));
        entries_.reserve(values.size());
        for (std::size_t i = 0; i < values.size(); ++i) add(py::int_(i), values[i], gradients[i]);
    }

    static bool is_list(py::handle object) {
        return py::isinstance<py::list>(object) || py::isinstance<py::tuple>(object);
    }

    // The value of a key, or a null object.
    static py::object find(const py::object& dict, const py::object& key) {
#if PY_VERSION_HEX >= 0x030D0000
        PyObject* found = nullptr;  // not borrowed: without a GIL another thread could free it at once
        PyDict_GetItemRef(dict.ptr(), key.ptr(), &found);
        const auto value = py::reinterpret_steal<py::object>(found);
#else
        const auto value = py::reinterpret_borrow<py::object>(PyDict_GetItemWithError(dict.ptr(), key.ptr()));
#endif
        if (!value && PyErr_Occurred()) throw py::error_already_set();
        return value;
    }

    void add(py::object key, const py::object& parameter, const py::object& gradient) {
        if (gradient.is_none()) return;
        Entry entry;
        entry.key = std::move(key);
        entry.parameter = shared_array(name("params", entry), parameter);
        if (!entry.parameter) {
            entry.parameter = array_of_number(name("params", entry), parameter);
            if (py::isinstance<py::tuple>(params_))
                throw py::type_error(name("params", entry).text() + " is a " + type_name(parameter) +
                                     ", which can't be replaced in a tuple");
            entry.number = parameter;
        }
        entry.gradient = shared_array(name("grads", entry), gradient);
        if (!entry.gradient) entry.gradient = array_of_number(name("grads", entry), gradient);
        entries_.push_back(std::move(entry));
    }

    // A new array without dimensions.
    static py::array array_of_number(const Name& name, const py::object& value) {
        if (!py::isinstance<py::float_>(value) && !py::isinstance<py::int_>(value) &&
            !py::isinstance(value, numpy().attr("generic")))
            refuse_unshared(name, value, "an array of floats");
        return numpy().attr("array")(value);
    }

    static py::object updated_number(const Entry& entry) {
        const py::object value = entry.parameter[py::tuple()];
        return PyFloat_CheckExact(entry.number.ptr()) ? py::object(py::float_(value.cast<double>())) : value;
    }

    Name name(const char* container, const Entry& entry) const {
        return {container, single_ ? py::handle() : py::handle(entry.key)};
    }

    Name state_name(const Entry& entry, int i) const {
        return {"state", entry.key, PyTuple_GET_ITEM(letters_.ptr(), i)};
    }

    void check(Entry& entry) {
        const Name parameter_name = name("params", entry), gradient_name = name("grads", entry);
        require_native(parameter_name, entry.parameter);
        require_writeable(parameter_name, entry.parameter);
        require_distinct_elements(parameter_name, entry.parameter);
        require_same_shape(gradient_name, entry.gradient, parameter_name, entry.parameter);
        if (stored_type(entry.gradient) == kNotNative) {
            if (entry.gradient.dtype().kind() != 'f')
                throw py::type_error(gradient_name.text() + " has dtype " + text(entry.gradient.dtype()) +
                                     ", expected a floating-point type");
            entry.gradient = entry.gradient.attr("astype")(entry.parameter.dtype());  // of another library
        }
        if (rule_.states == 0) return;
        if (const py::object arrays = find(state_, entry.key))
            check_state(entry, arrays);
        else
            make_state(entry);
    }

    void make_state(Entry& entry) {
        py::dict arrays;
        for (int i = 0; i < rule_.states; ++i) {
            entry.state[i] = zeros_beside(entry.parameter, i);
            arrays[letters_[i]] = entry.state[i];
        }
        new_state_.emplace_back(entry.key, std::move(arrays));
    }

    void check_state(Entry& entry, const py::object& arrays) const {
        const Name parameter_name = name("params", entry);
        if (!py::isinstance<py::dict>(arrays))
            throw py::type_error(Name{"state", entry.key}.text() + " is a " + type_name(arrays) + ", expected a dict");
        for (int i = 0; i < rule_.states; ++i) {
            const py::object value = find(arrays, py::object(letters_[i]));
            const Name own_name = state_name(entry, i);
            if (!value) throw py::value_error(own_name.text() + " is missing");
            if (!py::isinstance<py::array>(value))
                throw py::type_error(own_name.text() + " is a " + type_name(value) + ", expected an array");
            entry.state[i] = value;
            require_same_shape(own_name, entry.state[i], parameter_name, entry.parameter);
            require_same_type(own_name, entry.state[i], parameter_name, entry.parameter);
            require_writeable(own_name, entry.state[i]);
            require_distinct_elements(own_name, entry.state[i]);
        }
    }

    void plan(const Entry& entry) {
        if (entry.parameter.size() == 0) return;
        const int count = 2 + rule_.states, type = native_type(entry.parameter);
        const py::array* arrays[2 + kMaxStates] = {&entry.parameter, &entry.gradient};
        for (int i = 0; i < rule_.states; ++i) arrays[kState + i] = &entry.state[i];

        Span spans[2 + kMaxStates];
        if (std::all_of(arrays, arrays + count,
                        [=](const py::array* a) { return is_plain(*a) && native_type(*a) == type; })) {
            UpdateItem item{entry.parameter.size(), type, {}, {}};
            for (int i = 0; i < count; ++i) {
                char* const data = address(*arrays[i]);
                item.arrays[i] = {data, type, {}};
                spans[i] = {data, data + arrays[i]->nbytes(), i != kGradient};
            }
            items_.push_back(std::move(item));
        } else {
            std::vector<View> views;
            for (int i = 0; i < count; ++i) {
                views.push_back(view_of(*arrays[i]));
                spans[i] = span_of(views.back(), i != kGradient);
            }
            items_.push_back(update_item(views));
        }
        spans_.insert(spans_.end(), spans, spans + count);
        check_spans(entry, spans, arrays, count);
    }

    // Copies a gradient that what is written here would change on the way; nothing else of an item may overlap.
    void check_spans(const Entry& entry, const Span* spans, const py::array* const* arrays, int count) {
        for (int i = 0; i < count; ++i) {
            for (int j = 0; j < i; ++j) {
                if (!spans[i].meets(spans[j])) continue;
                if (i == kGradient || j == kGradient) {
                    copy_gradient(items_.back());
                } else if (numpy().attr("shares_memory")(*arrays[i], *arrays[j]).cast<bool>()) {
                    const Name other = j == kParameter ? name("params", entry) : state_name(entry, j - kState);
                    throw py::value_error(state_name(entry, i - kState).text() + " shares memory with " + other.text());
                }
            }
        }
    }

    void copy_gradient(UpdateItem& item) {
        if (item.gradient_copy) return;
        const auto bytes =
            static_cast<std::size_t>(item.size) * (item.type == kFloat32 ? sizeof(float) : sizeof(double));
        copies_.emplace_back(new char[bytes]);
        item.gradient_copy = copies_.back().get();
    }

    const UpdateRule& rule_;
    const py::object params_, grads_;
    py::dict attributes_, state_;
    const py::tuple letters_;
    bool single_ = false, in_order_ = false;
    std::vector<Entry> entries_;
    std::vector<std::pair<py::object, py::dict>> new_state_;
    std::vector<UpdateItem> items_;
    std::vector<Span> spans_;
    std::vector<std::unique_ptr<char[]>> copies_;
};

const UpdateRule& find_rule(const char* name) {
    const KernelTable& kernels = table();
    for (int i = 0; i < kernels.rule_count; ++i)
        if (std::strcmp(kernels.rules[i].name, name) == 0) return kernels.rules[i];
    throw py::value_error(std::string("there is no update rule '") + name + "'");
}

// attributes: of the optimizer; "state" and "iterations" are looked up and moved.
void update_all(const char* rule_name, const py::tuple& coefficients, double weight_decay, const py::object& params,
                const py::object& grads, const py::dict& attributes, const py::tuple& letters) {
    const UpdateRule& rule = find_rule(rule_name);
    if (coefficients.size() != static_cast<std::size_t>(rule.coefficients) ||
        letters.size() != static_cast<std::size_t>(rule.states))
        throw py::value_error(std::string("'") + rule_name + "' takes " + std::to_string(rule.coefficients) +
                              " coefficients and " + std::to_string(rule.states) + " states, not " +
                              std::to_string(coefficients.size()) + " and " + std::to_string(letters.size()));
    double values[kMaxCoefficients];
    for (std::size_t i = 0; i < coefficients.size(); ++i) values[i] = coefficients[i].cast<double>();
    values[coefficients.size()] = weight_decay;
    Update(rule, params, grads, attributes, letters).run(weight_decay != 0, values);
}

}  // namespace

void bind_update(py::module_& module) {
    module.def("update", &update_all, py::arg("rule"), py::arg("coefficients"), py::arg("weight_decay"),
               py::arg("params"), py::arg("grads"), py::arg("attributes"), py::arg("letters"));
}

}  // namespace fusedstep
