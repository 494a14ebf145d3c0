#include "settings.hpp"

#include <algorithm>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "containers.hpp"

namespace fusedstep {

static py::object interned(const char* name) {
    return py::reinterpret_steal<py::object>(PyUnicode_InternFromString(name));
}

// Called with the GIL, or in a free-threaded interpreter first when the module is imported.
// First the rules, then Muon.
static const auto& all_names() {
    static const auto* const all = [] {
        auto* made = new std::vector<std::pair<const Rule*, Names>>;  // never destroyed: the interpreter may end first
        const auto add = [&](const Rule& each) {
            Names& names = made->emplace_back(&each, Names()).second;
            names.rule = interned(each.name);
            for (const State& state : each.states) names.states.push_back(interned(state.name));
            for (const Scalar& scalar : each.scalars) names.scalars.push_back(interned(scalar.name));
            for (const Hyperparameter& own : each.hyperparameters) names.hyperparameters.push_back(interned(own.name));
        };
        for (const Rule& each : rules()) add(each);
        add(muon());
        add(accumulation());
        add(exchange());
        add(interpolation());
        return made;
    }();
    return *all;
}

const Names& names_of(const Rule& rule) {
    const auto& all = all_names();
    return std::find_if(all.begin(), all.end(), [&](const auto& each) { return each.first == &rule; })->second;
}

const Rule& rule_of(const py::object& name) {
    if (!py::isinstance<py::str>(name))
        throw py::type_error("the update rule is " + text(py::repr(name)) + ", expected its name");
    const auto& all = all_names();
    const std::size_t count = rules().size() + 1;
    for (std::size_t i = 0; i < count; ++i)
        if (all[i].second.rule.is(name)) return *all[i].first;
    for (std::size_t i = 0; i < count; ++i)
        if (PyUnicode_CompareWithASCIIString(name.ptr(), all[i].first->name) == 0) return *all[i].first;
    throw py::value_error("there is no update rule " + text(py::repr(name)));
}

const OptimizerNames& optimizer_names() {
    static const auto* const names = new OptimizerNames{
        interned("_rule"),      interned("lr"),       interned("count_updates"), interned("state"), interned("steps"),
        interned("iterations"), interned("_lengths"), interned("average"),       interned("master")};
    return *names;
}

py::object Attributes::operator[](const py::object& name) const {
    py::object value = find_in_dict(own_, name);
    return value ? value : py::object(optimizer_.attr(name));
}

double checked_value(const Hyperparameter& hyperparameter, const py::object& value, const Name& name) {
    const bool flag = hyperparameter.limit == Limit::kFlag;
    if (value.is_none() && is_within(hyperparameter.limit, kOff)) return kOff;
    if (flag && PyBool_Check(value.ptr())) return value.is(py::bool_(true));
    const double number = !flag && PyFloat_CheckExact(value.ptr()) ? PyFloat_AS_DOUBLE(value.ptr()) : kOff;
    if (number != kOff && is_within(hyperparameter.limit, number)) return number;
    const py::object check = py::module_::import("fusedstep._limits").attr(flag ? "checked_flag" : "checked");
    return check(hyperparameter.name, value, name.text()).cast<double>();
}

std::int64_t checked_count(const std::string& shown_name, const py::object& value) {
    const py::object count = py::module_::import("fusedstep._limits").attr("checked_count")(shown_name, value, 1);
    int overflow = 0;
    const long long result = PyLong_AsLongLongAndOverflow(count.ptr(), &overflow);
    if (overflow != 0) throw py::value_error(shown_name + " is " + text(count) + ", expected a number below 2^63");
    return result;
}

Settings Settings::of_optimizer(const Rule& rule, const Attributes& attributes, const Given& given) {
    const Names& names = names_of(rule);
    Settings settings;
    const auto own_of = [&](std::size_t i) {
        return given.overrides ? find_in_dict(given.overrides, names.hyperparameters[i]) : py::object();
    };
    for (std::size_t i = 0; i < rule.hyperparameters.size(); ++i) {
        if (i == kLearningRate)
            settings.values[i] = given.lr;
        else if (i == kScale)
            settings.values[i] = own_of(i) ? checked_value(rule.hyperparameters[i], own_of(i)) : given.scale;
        else if (i == kAverage)
            settings.values[i] = given.average;
        else if ((!given.has_options && i >= kMaximize && i < kFirstOwn) ||
                 (i == kDecoupled && settings.values[kWeightDecay] == 0))
            settings.values[i] = rule.hyperparameters[i].fallback;  // which the step doesn't depend on
        else {
            const py::object own = own_of(i);
            settings.values[i] =
                checked_value(rule.hyperparameters[i], own ? own : attributes[names.hyperparameters[i]]);
        }
    }
    if (!rule.counts_steps) return settings;
    if (attributes[optimizer_names().count_updates].cast<bool>()) {
        const py::object made = attributes[optimizer_names().iterations];
        settings.t = checked_count("iterations + 1", made + py::int_(1));
        return settings;
    }
    settings.counts = attributes[optimizer_names().steps];
    if (!py::isinstance<py::dict>(settings.counts))
        throw py::type_error("steps is a " + type_name(settings.counts) + ", expected a dict");
    return settings;
}

static std::size_t index_of(const Rule& rule, py::handle name) {
    const char* const own = PyUnicode_AsUTF8(name.ptr());
    if (!own) throw py::error_already_set();
    const int index = rule.index_of(own);
    if (index < 0)
        throw py::type_error(std::string("'") + rule.name + "' has no hyper-parameter " + text(py::repr(name)));
    return static_cast<std::size_t>(index);
}

// Also a tensor of one; None for what is off.
static double number_of(const py::object& value) {
    if (value.is_none()) return kOff;
    const double number = PyFloat_AsDouble(value.ptr());
    if (number == -1 && PyErr_Occurred()) throw py::error_already_set();
    return number;
}

Settings Settings::of_tensors(const Rule& rule, const py::dict& group, const py::dict& own) {
    const std::vector<py::object>& names = names_of(rule).hyperparameters;
    Settings settings;
    for (std::size_t i = 0; i < rule.hyperparameters.size(); ++i) settings.values[i] = rule.hyperparameters[i].fallback;
    for (const int i : {int{kLearningRate}, int{kWeightDecay}, int{kMaximize}}) {
        const py::object value = find_in_dict(group, names[static_cast<std::size_t>(i)]);
        settings.values[i] = value ? number_of(value) : 0;
    }
    for (const auto& [name, value] : own) {
        const auto known = std::find_if(names.begin(), names.end(), [&](const auto& each) { return each.is(name); });
        const std::size_t index =
            known != names.end() ? static_cast<std::size_t>(known - names.begin()) : index_of(rule, name);
        settings.values[index] = number_of(py::reinterpret_borrow<py::object>(value));
    }
    return settings;
}

Settings Settings::of_call(const Rule& rule, const py::object& t, const py::dict& hyperparameters, bool uses_t) {
    Settings settings;
    for (std::size_t i = 0; i < rule.hyperparameters.size(); ++i) settings.values[i] = rule.hyperparameters[i].fallback;
    for (const auto& [key, value] : hyperparameters) {
        const std::size_t index = index_of(rule, key);
        const auto given = py::reinterpret_borrow<py::object>(value);
        if (py::isinstance<py::dict>(given) || is_list(given))
            settings.own_values.emplace_back(static_cast<int>(index), given);
        else
            settings.values[index] = checked_value(rule.hyperparameters[index], given);
    }
    if (!rule.counts_steps && !uses_t) return settings;
    if (py::isinstance<py::dict>(t) || is_list(t))
        settings.counts = t;
    else
        settings.t = checked_count("t", t);
    return settings;
}

py::dict rule_table() {
    py::dict table;
    const auto add = [&](const Rule& rule) {
        py::dict hyperparameters;
        for (const Hyperparameter& own : rule.hyperparameters) {
            constexpr const char* limits[] = {"not negative",          "up to one",         "below one", "flag",
                                              "optional not negative", "optional up to one"};
            const py::object fallback = own.limit == Limit::kFlag ? py::object(py::bool_(own.fallback != 0))
                                        : own.fallback == kOff    ? py::object(py::none())
                                                                  : py::object(py::float_(own.fallback));
            hyperparameters[own.name] = py::make_tuple(fallback, limits[static_cast<int>(own.limit)]);
        }
        py::list states;
        py::dict starts, scalars, shapes;
        for (const State& state : rule.states) {
            if (state.start == kMadeEachStep) continue;
            states.append(state.name);
            if (state.start) starts[state.name] = state.start;
            if (state.shape != State::kWhole) shapes[state.name] = state.shape == State::kRows ? "rows" : "columns";
        }
        for (const Scalar& scalar : rule.scalars) scalars[scalar.name] = scalar.start;
        Values values;
        std::transform(rule.hyperparameters.begin(), rule.hyperparameters.end(), values,
                       [](const Hyperparameter& each) { return each.fallback; });
        Program program;
        build(rule, kFloat64, values, 1, {}, program);
        const bool is_elementwise = program.passes == 1 && shapes.empty();
        table[rule.name] = py::make_tuple(py::tuple(states), hyperparameters, rule.counts_steps, starts, scalars,
                                          shapes, is_elementwise);
    };
    for (const Rule& rule : rules()) add(rule);
    add(muon());
    return table;
}

std::int64_t next_step(const Name& name, const py::object& made) {
    int overflow = 0;
    const long long count = PyLong_CheckExact(made.ptr()) ? PyLong_AsLongLongAndOverflow(made.ptr(), &overflow) : -1;
    if (count >= 0 && count != std::numeric_limits<long long>::max()) return count + 1;
    const py::object check = py::module_::import("fusedstep._limits").attr("checked_count");
    return check(name.text(), made, 0).cast<std::int64_t>() + 1;
}

}  // namespace fusedstep
