#include "member.hpp"

#include <utility>

namespace fusedstep {

Member Member::of_optimizer(const py::tuple& given, double scale) {
    const py::object optimizer = given[0], options = given[5];
    const Rule& rule = rule_of(given[1]);
    Settings::Given values{given[2].cast<double>(), scale, kOff, !options.is_none(), {}};
    if (!given[4].is_none()) values.overrides = given[4];
    py::tuple parts;
    if (!options.is_none()) {
        parts = options;
        if (!parts[0].is_none()) values.average = py::float_(parts[0]);
    }
    const py::object state = optimizer.attr(optimizer_names().state);
    if (!py::isinstance<py::dict>(state)) throw py::type_error("state is a " + type_name(state) + ", expected a dict");
    Member member(rule, state, Settings::of_optimizer(rule, optimizer, values, given[3]));
    member.optimizer = optimizer;
    if (parts.size() < 2) return member;
    member.masters = parts[1].cast<bool>();
    member.seed = parts[2].cast<std::uint64_t>();
    member.stochastic = parts[3].cast<bool>();
    member.narrow_state = parts[4].cast<bool>();
    member.update = optimizer.attr(optimizer_names().iterations).cast<std::uint64_t>() + 1;
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

Member Member::of_call(const Rule& rule, const py::object& state, Settings settings, const py::object& seed) {
    Member member(rule, state, std::move(settings));
    member.stochastic = !seed.is_none();
    if (member.stochastic) member.seed = seed.cast<std::uint64_t>();
    if (member.settings.t != 0) member.update = static_cast<std::uint64_t>(member.settings.t);
    return member;
}

}  // namespace fusedstep
