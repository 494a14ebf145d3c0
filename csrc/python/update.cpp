// Updates: takes the arrays out of the containers, checks all of them before the first is written.
#include <algorithm>
#include <atomic>
#include <deque>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "containers.hpp"
#include "float_mode.hpp"
#include "optimizer_lock.hpp"
#include "settings.hpp"
#include "shared.hpp"
#include "step.hpp"

namespace fusedstep {
namespace {

const char* const kFloats = "float32, float64, float16 or bfloat16";

// A tensor that isn't what it was when it was looked at.
struct OtherMemory {
    std::string message;
    bool ran_python;  // which may have done it
};

// One call: its arrays are taken and checked when it is made.
class Update {
  public:
    // optimizer: None, or whose `state` gets what it lacks, and whose counts are moved.
    Update(const Rule& rule, const py::object& params, const py::object& grads, const py::object& state,
           Settings settings, const py::object& optimizer)
        : rule_(rule),
          names_(names_of(rule)),
          params_(params),
          grads_(grads),
          state_(state),
          optimizer_(optimizer),
          settings_(std::move(settings)),
          pairs_(params_, grads_, shared_[kParameter]) {
        single_ = pairs_.is_single;
        check_lengths();
        step_.reserve(pairs_.list.size());
        owners_.reserve(pairs_.list.size() * rule_.states.size());
        for (const Pair& pair : pairs_.list)
            if (!pair.gradient.is_none()) add(pair);
        if (!optimizer_.is_none()) refuse_keys_of_json(state_, new_state_, pairs_.list.size());
        step_.plan();
        keep_memory_of_tensors();
    }

    // Counts are moved here, not in Python, where an interrupt could come between the step and the count. What can fail
    // comes before the first array is written, and is undone if something after it fails.
    void run() {
        const OptimizerLock lock(optimizer_);
        py::object iterations;
        if (!optimizer_.is_none()) iterations = py::object(optimizer_.attr("iterations")) + py::int_(1);
        numbers_.require_replaceable();
        std::optional<Restored> restored;
        if (!new_state_.empty() || (ran_python_ && !new_counts_.empty()))
            restored.emplace(std::initializer_list<py::object>{state_, settings_.counts});
        for (const auto& [key, arrays] : new_state_) set(state_, key, arrays);
        for (const auto& [pair, t] : new_counts_) set(settings_.counts, pair->key, py::int_(t));
        if (new_lengths_) optimizer_.attr("_lengths") = new_lengths_;
        if (restored) restored->keep();
        if (step_.is_sequential() && !converted_.empty())
            run_in_turn();
        else
            run_all();
        if (!optimizer_.is_none()) {
            static PyObject* const name = PyUnicode_InternFromString("iterations");
            if (PyObject_GenericSetAttr(optimizer_.ptr(), name, iterations.ptr()) != 0) throw py::error_already_set();
        }
        numbers_.replace();
        count_changes();
    }

  private:
    struct Tensor {
        const Pair* pair;
        int operand;
        py::object owner;
        Span span;
    };

    // A gradient of a type that only NumPy can read, in a buffer of the type that is computed in.
    struct Converted {
        std::size_t number;
        py::object from;
        py::array to = no_array();
    };

    void run_all() {
        if (holds_gil_ || !numbers_.empty()) return step_.run();  // nobody may take the numbers away meanwhile
        const WithoutGil released;
        step_.run();
    }

    // A tensor can be given other memory while it is kept, by another thread or by what has run here since it was
    // looked at. Another tensor of the same memory keeps that, but takes longer than updating a small one: a few small
    // tensors are updated with the GIL held.
    void keep_memory_of_tensors() {
#ifdef Py_GIL_DISABLED
        constexpr bool has_gil = false;
#else
        constexpr bool has_gil = true;
#endif
        constexpr std::int64_t kMostBytes = 1 << 20;
        if (tensors_.empty()) return;
        holds_gil_ = has_gil && !ran_python_ && step_.bytes() <= kMostBytes;
        if (holds_gil_) return;
        for (const Tensor& tensor : tensors_) {
            owners_.push_back(tensor.owner.attr("detach")());
            Shared same;
            // Not by way of NumPy, which allocates memory for a tensor that has none, maybe where that was.
            if (same.take({"tensor"}, owners_.back()) && same.by_dlpack && span_of(same.view, false) == tensor.span)
                continue;
            const Name tensor_name = tensor.operand == kParameter  ? name("params", *tensor.pair)
                                     : tensor.operand == kGradient ? name("grads", *tensor.pair)
                                                                   : state_name(*tensor.pair, tensor.operand - kState);
            throw OtherMemory{tensor_name.text() + " was given other memory during the update", ran_python_};
        }
    }

    // A gradient may be in the memory of a parameter that is updated before its own.
    void run_in_turn() {
        auto next = converted_.begin();
        for (std::size_t i = 0; i < added_; ++i) {
            if (next != converted_.end() && next->number == i) {
                copy_numbers(next->from, next->to);
                ++next;
            }
            const WithoutGil released;
            step_.run_one(i);
        }
    }

    static void set(const py::object& dict, const py::object& key, const py::object& value) {
        if (PyDict_SetItem(dict.ptr(), key.ptr(), value.ptr()) != 0) throw py::error_already_set();
    }

    // Raises the tensors' version counters, so that autograd refuses a backward pass that needs their old values.
    void count_changes() {
        if (PyList_GET_SIZE(changed_tensors_.ptr()) == 0) return;
        static std::atomic<PyObject*> known{nullptr};
        if (!known.load()) {
            const py::object graph = py::module_::import("torch.autograd.graph");
            known.store(py::object(py::getattr(graph, "increment_version", py::none())).release().ptr());
        }
        if (known.load() != Py_None) py::handle(known.load())(changed_tensors_);
    }

    // The keys of a list are positions: in a list of another length they may be those of other parameters.
    void check_lengths() {
        if (!optimizer_.is_none() && !rule_.states.empty()) new_lengths_ = pairs_.changed_lengths(optimizer_);
    }

    Name name(const char* container, const Pair& pair) const {
        return single_ ? Name{container} : pair.name(container);
    }

    // An optimizer keeps all state by key, that of a single array too.
    Name state_name(const Pair& pair) const {
        return optimizer_.is_none() ? name("state", pair) : Name{"state", pair.key};
    }

    Name state_name(const Pair& pair, int i) const {
        Name name = state_name(pair);
        name.letter = names_.states[static_cast<std::size_t>(i)];
        return name;
    }

    void add(const Pair& pair) {
        ran_python_ = ran_python_ || !is_plain_key(pair.key) || !settings_.own_values.empty();
        const Name parameter_name = name("params", pair), gradient_name = name("grads", pair);
        Shared& parameter = shared_[kParameter];
        Shared& gradient = shared_[kGradient];
        // A single object has been taken already, to see that it is no container.
        if (!single_ && !parameter.take(parameter_name, pair.parameter)) take_number(parameter_name, pair);
        if (!gradient.take(gradient_name, pair.gradient)) {
            py::array array = array_of_number(gradient_name, pair.gradient);
            const int storage = storage_of(array);
            gradient.take_array(std::move(array), storage);
        }
        check_parameter(parameter_name, parameter);
        if (!same_shape(gradient.view, parameter.view))
            throw py::value_error(gradient_name.text() + " has shape " + gradient.shape() + ", " +
                                  parameter_name.text() + " has " + parameter.shape());
        if (gradient.view.storage == kNoStorage) convert(gradient_name, gradient, parameter.view);
        const bool fresh = take_state(pair, parameter_name, parameter);

        for (int i = 0; i < 2 + static_cast<int>(rule_.states.size()); ++i) {
            views_[i] = shared_[i].view;
            if (shared_[i].by_dlpack) tensors_.push_back({&pair, i, shared_[i].owner, span_of(shared_[i].view, false)});
            ran_python_ = ran_python_ || shared_[i].ran_python;
            if (shared_[i].tensor && i != kGradient) changed_tensors_.append(shared_[i].tensor);
            if (i >= kState || !(shared_[i].owner.is(pair.parameter) || shared_[i].owner.is(pair.gradient)))
                owners_.push_back(std::move(shared_[i].owner));
        }
        try {
            step_.add(program(pair, arithmetic_of(parameter.view.storage), count_step(pair, fresh)), views_);
        } catch (const OperandsOverlap& overlap) {
            const auto shown = [&](int operand) {
                return operand == kParameter ? parameter_name.text() : state_name(pair, operand - kState).text();
            };
            throw py::value_error(shown(overlap.second) + " shares memory with " + shown(overlap.first));
        }
        ++added_;
    }

    void take_number(const Name& parameter_name, const Pair& pair) {
        py::array array = numbers_.add(parameter_name, pair);
        const int storage = storage_of(array);
        shared_[kParameter].take_array(std::move(array), storage);
    }

    static void check_parameter(const Name& name, const Shared& parameter) {
        if (parameter.view.storage == kNoStorage)
            throw py::type_error(name.text() + " has dtype " + parameter.dtype() + ", expected " + kFloats);
        require_written(name, parameter);
    }

    static void require_written(const Name& name, const Shared& array) {
        if (!array.writeable && array.is_copy())
            throw py::type_error(name.text() + " has an __array_interface__ of a copy, expected one of its memory");
        if (!array.writeable) throw py::value_error(name.text() + " is read-only");
        require_distinct_elements(name, array.view);
    }

    void convert(const Name& name, Shared& gradient, const View& parameter) {
        const auto from = py::reinterpret_borrow<py::array>(gradient.owner);
        if (from.dtype().kind() != 'f')
            throw py::type_error(name.text() + " has dtype " + gradient.dtype() + ", expected a floating-point type");
        step_.add_read(span_of(gradient.view, from.itemsize(), false));
        const char* const type = arithmetic_of(parameter.storage) == kFloat64 ? "f8" : "f4";
        py::array to = numpy().attr("empty")(from.attr("shape"), type);
        copy_numbers(from, to);
        converted_.push_back({added_, from, to});
        gradient.take_array(std::move(to), arithmetic_of(parameter.storage));
    }

    // Whether the state is new.
    bool take_state(const Pair& pair, const Name& parameter_name, const Shared& parameter) {
        const int states = static_cast<int>(rule_.states.size());
        if (states == 0) return false;
        const py::object arrays = state_of(pair);
        if (!arrays) {
            py::dict made;
            for (int i = 0; i < states; ++i) {
                Shared& own = shared_[kState + i];
                own.take_array(zeros_beside(parameter.view, i), arithmetic_of(parameter.view.storage));
                made[names_.states[i]] = own.owner;
            }
            new_state_.emplace_back(pair.key, std::move(made));
            return true;
        }
        const bool ordered = is_list(arrays);
        if (!ordered && !py::isinstance<py::dict>(arrays))
            throw py::type_error(state_name(pair).text() + " is a " + type_name(arrays) + ", expected a dict");
        if (ordered && py::len(arrays) != static_cast<std::size_t>(states))
            throw py::value_error(state_name(pair).text() + " has length " + std::to_string(py::len(arrays)) +
                                  ", the rule has " + std::to_string(states) + " states");
        for (int i = 0; i < states; ++i) {
            const Name own_name = state_name(pair, i);
            const py::object value = ordered ? py::object(arrays[py::int_(i)]) : find_in_dict(arrays, names_.states[i]);
            if (!value) throw py::value_error(own_name.text() + " is missing");
            check_state(own_name, shared_[kState + i], value, parameter_name, parameter);
        }
        return false;
    }

    // The state of a parameter; null if it is to be made.
    py::object state_of(const Pair& pair) const {
        if (!optimizer_.is_none()) return find_in_dict(state_, pair.key);
        return single_ ? state_ : element_of("state", state_, pair);
    }

    void check_state(const Name& own_name, Shared& own, const py::object& value, const Name& parameter_name,
                     const Shared& parameter) const {
        const bool any = optimizer_.is_none();  // a tensor too
        if ((!any && !py::isinstance<py::array>(value)) || !own.take(own_name, value))
            throw py::type_error(own_name.text() + " is a " + type_name(value) + ", expected an array");
        if (!same_shape(own.view, parameter.view))
            throw py::value_error(own_name.text() + " has shape " + own.shape() + ", " + parameter_name.text() +
                                  " has " + parameter.shape());
        if (own.view.storage != arithmetic_of(parameter.view.storage))
            throw py::value_error(own_name.text() + " has dtype " + own.dtype() + ", " + parameter_name.text() +
                                  " has " + parameter.dtype());
        require_written(own_name, own);
    }

    // The number of the parameter's step, from 1; a fresh one makes its first.
    std::int64_t count_step(const Pair& pair, bool fresh) {
        if (!rule_.counts_steps) return 1;
        if (settings_.t != 0) return settings_.t;
        if (optimizer_.is_none()) {
            const py::object t = element_of("t", settings_.counts, pair);
            return checked_count(pair.name("t").text(), t);
        }
        std::int64_t t = 1;
        if (!fresh) {
            const py::object had = find_in_dict(settings_.counts, pair.key);
            // State that was put there by hand has made the optimizer's steps.
            t = next_step({"steps", pair.key}, had ? had : py::object(optimizer_.attr("iterations")));
        }
        new_counts_.emplace_back(&pair, t);
        return t;
    }

    const Program& program(const Pair& pair, int arithmetic, std::int64_t t) {
        for (const auto& [index, source] : settings_.own_values) {
            const Hyperparameter& hyperparameter = rule_.hyperparameters[static_cast<std::size_t>(index)];
            const py::object value = element_of(hyperparameter.name, source, pair);
            settings_.values[index] = checked_value(hyperparameter, value, pair.name(hyperparameter.name));
        }
        const bool same = !programs_.empty() && programs_.back().arithmetic == arithmetic && programs_.back().t == t &&
                          (settings_.own_values.empty() ||
                           std::equal(programs_.back().values, programs_.back().values + rule_.hyperparameters.size(),
                                      settings_.values));
        if (!same) {
            programs_.emplace_back();
            build(rule_, arithmetic, settings_.values, t, programs_.back());
        }
        return programs_.back();
    }

    const Rule& rule_;
    const Names& names_;
    const py::object params_, grads_, state_, optimizer_;
    Settings settings_;
    bool single_ = false;
    Shared shared_[2 + kMaxStates];  // of the parameter at hand
    View views_[2 + kMaxStates];
    const Pairs pairs_;  // after shared_, of which it may fill the first
    Step step_;
    std::size_t added_ = 0;
    std::deque<Program> programs_;  // where they are, they stay
    std::vector<py::object> owners_;
    std::vector<Tensor> tensors_;
    py::list changed_tensors_;
    bool holds_gil_ = false;
    bool ran_python_ = false;  // since the first array was looked at
    Numbers numbers_;
    py::object new_lengths_;
    std::vector<Converted> converted_;
    std::vector<std::pair<py::object, py::dict>> new_state_;
    std::vector<std::pair<const Pair*, std::int64_t>> new_counts_;
};

// Begins again where another thread came between, before anything was written.
template <class Make> void run(const Make& make) {
    constexpr int kMostTries = 100;
    for (int tries = 1;; ++tries) {
        try {
            return make().run();
        } catch (const OtherMemory& found) {
            if (found.ran_python || tries == kMostTries) throw py::value_error(found.message);
        }
    }
}

// One step of an optimizer, whose hyper-parameters are its attributes. t: the number of the step, or None, if each
// parameter counts its own in `steps`.
void update(const py::object& optimizer, const py::object& rule_name, double lr, const py::object& params,
            const py::object& grads, const py::object& t) {
    const Rule& rule = rule_of(rule_name);
    const py::object state = optimizer.attr("state");
    if (!py::isinstance<py::dict>(state)) throw py::type_error("state is a " + type_name(state) + ", expected a dict");
    run([&] { return Update(rule, params, grads, state, Settings::of_optimizer(rule, optimizer, lr, t), optimizer); });
}

// One step of a rule, with everything from the caller.
void step(const py::object& rule_name, const py::object& params, const py::object& grads, const py::object& state,
          const py::object& t, const py::dict& hyperparameters) {
    const Rule& rule = rule_of(rule_name);
    run([&] { return Update(rule, params, grads, state, Settings::of_call(rule, t, hyperparameters), py::none()); });
}

}  // namespace

void bind_update(py::module_& module) {
    using namespace pybind11::literals;
    module.def("update", &update, "optimizer"_a, "rule"_a, "lr"_a, "params"_a, "grads"_a, "t"_a);
    module.def("step", &step, "rule"_a, "params"_a, "grads"_a, "state"_a, "t"_a, "hyperparameters"_a);
    module.def(
        "exclusively",
        [](const py::object& optimizer, const py::object& function) {
            const OptimizerLock lock(optimizer);
            return function();
        },
        "optimizer"_a, "function"_a);
    module.attr("rules") = rule_table();
}

}  // namespace fusedstep
