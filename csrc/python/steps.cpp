// The functions of the module that make steps.
#include <string>
#include <utility>
#include <vector>

#include "optimizer_lock.hpp"
#include "update.hpp"

namespace fusedstep {
namespace {

std::optional<double> number_or_none(const py::object& value) {
    return value.is_none() ? std::optional<double>() : value.cast<double>();
}

void set_norm(CallOptions& options, const py::object& norm, const py::object& clip_norm,
              const py::object& skip_nonfinite) {
    options.norm = number_or_none(norm);
    options.clip_norm = number_or_none(clip_norm);
    options.skip_nonfinite = skip_nonfinite.is(py::bool_(true));
    if (!options.norm && (options.clip_norm || options.skip_nonfinite)) options.measure = Measure::kGradients;
}

bool flag_of_call(const char* name, const py::object& value) {
    if (PyBool_Check(value.ptr())) return value.is(py::bool_(true));
    return py::module_::import("fusedstep._limits").attr("checked_flag")(name, value).cast<bool>();
}

std::vector<Member> members_of(const py::object& optimizers, double scale) {
    std::vector<Member> members;
    if (!PyList_CheckExact(optimizers.ptr())) {
        members.push_back(Member::of_optimizer(optimizers, py::none(), scale));
        return members;
    }
    for (const py::handle each : py::list(optimizers)) {
        const auto given = py::reinterpret_borrow<py::tuple>(each);
        for (const py::handle part : py::list(given[1]))
            members.push_back(Member::of_optimizer(given[0], py::reinterpret_borrow<py::object>(part), scale));
    }
    return members;
}

// Called without pybind11, which takes as long to find out what to call as a step of a few small arrays.
PyObject* update(PyObject*, PyObject* const* given, Py_ssize_t count) {
    constexpr Py_ssize_t kLeast = 6, kAll = 11;
    try {
        if (count != kLeast && count != kAll) throw py::type_error("update takes 6 arguments, or all 11");
        const auto argument = [=](int i) { return py::reinterpret_borrow<py::object>(given[i]); };
        const double scale = checked_value(accumulation().hyperparameters[kScale], argument(3));
        CallOptions options;
        options.zero_grads = flag_of_call("zero_grads", argument(4));
        options.copies = argument(5);
        Assignment assignment{py::none(), py::none()};
        if (count == kAll) {
            assignment = {argument(6), argument(7)};
            set_norm(options, argument(8), argument(9), argument(10));
            if (options.norm) options.norm = *options.norm * scale;
        }
        return run([&] {
                   return Update(members_of(argument(0), scale), assignment, argument(1), argument(2), options).run();
               })
            .release()
            .ptr();
    } catch (py::error_already_set& error) {
        error.restore();
    } catch (const std::exception&) {
        py::detail::try_translate_exceptions();
    }
    return nullptr;
}

Update stateless(const Rule& rule, const py::object& params, const py::object& grads, const py::object& state,
                 Settings settings, const py::object& seed, const CallOptions& options) {
    std::vector<Member> member;
    member.push_back(Member::of_call(rule, state, std::move(settings), seed));
    return Update(std::move(member), {py::none(), py::none()}, params, grads, options);
}

// One step of a rule, with everything from the caller.
py::tuple step(const py::object& rule_name, const py::object& params, const py::object& grads, const py::object& state,
               const py::object& t, const py::dict& hyperparameters, const py::object& zero_grads,
               const py::object& copies, const py::object& norm, const py::object& clip_norm,
               const py::object& skip_nonfinite, const py::object& seed) {
    const Rule& rule = rule_of(rule_name);
    if (&rule == &muon()) throw py::value_error("'muon' is a rule of its optimizer alone, fusedstep.Muon");
    return run([&] {
        CallOptions options;
        options.zero_grads = zero_grads.is(py::bool_(true));
        options.copies = copies;
        set_norm(options, norm, clip_norm, skip_nonfinite);
        Settings settings = Settings::of_call(rule, t, hyperparameters, !seed.is_none());
        if (options.norm) options.norm = *options.norm * settings.values[kScale];
        return stateless(rule, params, grads, state, std::move(settings), seed, options).run();
    });
}

double accumulate(const py::object& sums, const py::object& grads, double scale) {
    return run([&] {
        CallOptions options;
        options.measure = Measure::kParameters;
        py::dict values;
        values["scale"] = scale;
        Settings settings = Settings::of_call(accumulation(), py::int_(1), values, false);
        Update made = stateless(accumulation(), sums, grads, py::none(), std::move(settings), py::none(), options);
        made.run();
        return made.norm_of_parameters().value;
    });
}

// Of parameters with arrays that are given by key.
void exchange_arrays(const py::object& params, const py::dict& arrays) {
    run([&] {
        std::vector<Member> member;
        member.push_back(Member::of_exchange(arrays));
        return Update(std::move(member), {py::none(), py::none()}, params, params, {}).run();
    });
}

// All parameters of an optimizer change their mode together.
void require_all_with_state(const py::object& optimizer, const py::object& params) {
    Shared single;
    const Pairs pairs(params, params, single);
    pairs.changed_lengths(optimizer);
    py::set keys;
    for (const Pair& pair : pairs.list) keys.add(pair.key);
    for (const auto& [key, arrays] : py::dict(optimizer.attr(optimizer_names().state)))
        if (!keys.contains(key)) throw py::value_error("params lacks " + text(py::repr(key)) + ", which has state");
}

// Afterwards the optimizer is in the other mode.
void interpolate(const py::object& optimizer, bool training, const py::list& members, const py::object& assigned,
                 const py::object& assign, const py::object& params) {
    run([&] {
        require_all_with_state(optimizer, params);
        std::vector<Member> made;
        for (const py::handle member : members)
            made.push_back(Member::of_interpolation(py::reinterpret_borrow<py::tuple>(member)));
        return Update(std::move(made), {assigned, assign}, params, params, {}).run();
    });
    if (PyObject_GenericSetAttr(optimizer.ptr(), py::str("training").ptr(), py::bool_(training).ptr()) != 0)
        throw py::error_already_set();
}

void measure(const py::object& grads, Step& step) {
    Shared single;
    const Pairs pairs(grads, grads, single);
    std::vector<py::object> owners;
    std::list<TakenRows> rows;
    step.reserve(pairs.list.size());
    for (const Pair& pair : pairs.list) {
        if (pair.gradient.is_none()) continue;
        const Name name = pairs.is_single ? Name{"grads"} : pair.name("grads");
        if (TakenRows::is_rows(pair.gradient)) {
            TakenRows& taken = rows.emplace_back(name, pair.gradient);
            taken.merge(arithmetic_of(taken.storage()));
            const View views[] = {taken.view(), taken.view()};
            step.add(measurement(views[0].storage), views);
            continue;
        }
        Shared gradient;
        if (!gradient.take(name, pair.gradient)) {
            py::array array = array_of_number(name, pair.gradient);
            const int storage = storage_of(array);
            gradient.take_array(std::move(array), storage);
        }
        if (gradient.view.storage == kNoStorage)
            throw py::type_error(name.text() + " has dtype " + gradient.dtype() + ", expected " + kFloats);
        owners.push_back(gradient.owner);
        const View views[] = {gradient.view, gradient.view};
        step.add(measurement(arithmetic_of(gradient.view.storage)), views);
    }
    step.plan();
    const WithoutGil released;
    step.run();
}

double gradient_norm(const py::object& grads) {
    Step step(Measure::kParameters);
    measure(grads, step);
    return step.norm_of_parameters().value;
}

// The sum of squares of each tile, and whether all elements are finite.
py::tuple gradient_squares(const py::object& grads) {
    Step step(Measure::kParameters);
    measure(grads, step);
    const py::array_t<double> squares(step.tiles(), step.squares());
    return py::make_tuple(squares, step.norm_of_parameters().is_finite);
}

double norm_of_tiles(const py::array_t<double, py::array::c_style>& squares) {
    return norm_of_squares(squares.data(), squares.size());
}

}  // namespace

void bind_update(py::module_& module) {
    using namespace pybind11::literals;
    static PyMethodDef functions[] = {
        {"update", reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(&update)), METH_FASTCALL, nullptr}, {}};
    if (PyModule_AddFunctions(module.ptr(), functions) != 0) throw py::error_already_set();
    module.def("step", &step, "rule"_a, "params"_a, "grads"_a, "state"_a, "t"_a, "hyperparameters"_a, "zero_grads"_a,
               "copies"_a, "norm"_a, "clip_norm"_a, "skip_nonfinite"_a, "seed"_a);
    module.def("accumulate", &accumulate, "sums"_a, "grads"_a, "scale"_a);
    module.def("gradient_norm", &gradient_norm, "grads"_a);
    module.def("gradient_squares", &gradient_squares, "grads"_a);
    module.def("norm_of_squares", &norm_of_tiles, "squares"_a);
    module.def("exchange", &exchange_arrays, "params"_a, "arrays"_a);
    module.def("interpolate", &interpolate, "optimizer"_a, "training"_a, "members"_a, "assigned"_a, "assign"_a,
               "params"_a);
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
