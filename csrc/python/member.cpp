#include "member.hpp"

#include <utility>

namespace fusedstep {

// The value of a number or schedule for the next step.
static double scheduled(const char* name, const py::object& value, const Attributes& attributes) {
    if (PyFloat_CheckExact(value.ptr())) return PyFloat_AS_DOUBLE(value.ptr());
    const py::object function = py::module_::import("fusedstep.optimizers.options").attr("scheduled");
    return function(name, value, attributes[optimizer_names().iterations]).cast<double>();
}

Member Member::of_optimizer(const py::object& optimizer, const py::object& part, double scale) {
    const OptimizerNames& names = optimizer_names();
    const Attributes attributes(optimizer);
    const Rule& rule = rule_of(optimizer.attr(names.rule));
    Settings::Given given{0, scale, kOff, !part.is_none(), {}};
    py::tuple options;
    if (given.has_options) {
        const auto parts = py::reinterpret_borrow<py::tuple>(part);
        given.lr = scheduled("lr", parts[0], attributes);
        if (!parts[1].is_none()) given.overrides = parts[1];
        options = parts[2];
        if (!options[0].is_none()) given.average = scheduled("average", options[0], attributes);
    } else {
        given.lr = scheduled("lr", attributes[names.lr], attributes);
    }
    const py::object state = attributes[names.state];
    if (!py::isinstance<py::dict>(state)) throw py::type_error("state is a " + type_name(state) + ", expected a dict");
    Member member(rule, state, Settings::of_optimizer(rule, attributes, given));
    member.optimizer = optimizer;
    if (options.size() < 2) return member;
    member.masters = options[1].cast<bool>();
    member.seed = options[2].cast<std::uint64_t>();
    member.stochastic = options[3].cast<bool>();
    member.narrow_state = options[4].cast<bool>();
    member.update = attributes[names.iterations].cast<std::uint64_t>() + 1;
    return member;
}

Member Member::of_exchange(const py::dict& arrays) {
    py::dict state;
    for (const auto& [key, array] : arrays) state[key] = py::make_tuple(array);
    Member member(exchange(), state, Settings::of_call(exchange(), py::int_(1), py::dict(), false));
    member.needs_state = true;
    return member;
}

Member Member::of_interpolation(const py::tuple& given) {
    Member member(interpolation(), given[0], Settings::of_call(interpolation(), py::int_(1), py::dict(), false));
    member.settings.values[kFirstOwn] = given[1].cast<double>();
    member.masters = given[2].cast<bool>();
    member.narrow_state = given[3].cast<bool>();
    member.needs_state = true;
    return member;
}

Member Member::of_tensors(const TensorGroup& group, const py::dict& state, double scale) {
    const Rule& rule = rule_of(group.rule_name);
    Member member(rule, state, Settings::of_tensors(rule, group.group, group.own));
    member.tensors = &group;
    member.counts_steps = group.numbers > rule.scalars.size();
    member.settings.values[kScale] = scale;
    if (!group.average.is_none()) member.settings.values[kAverage] = group.average.cast<double>();
    member.masters = group.has_masters;
    member.stochastic = !group.seed.is_none();
    if (member.stochastic) member.seed = group.seed.cast<std::uint64_t>();
    return member;
}

Member Member::of_call(const Rule& rule, const py::object& state, Settings settings, const py::object& seed) {
    Member member(rule, state, std::move(settings));
    member.stochastic = !seed.is_none();
    if (member.stochastic) member.seed = seed.cast<std::uint64_t>();
    if (member.settings.t != 0) member.update = static_cast<std::uint64_t>(member.settings.t);
    return member;
}

}  // namespace fusedstep
