// The parameters of a step that share hyper-parameters: of an optimizer, or of one of its groups.
#pragma once

#include "rules.hpp"
#include "settings.hpp"
#include "tensor_groups.hpp"

namespace fusedstep {

struct Member {
    // part: None, or one of an optimizer's parts, as _native.pyi describes them.
    static Member of_optimizer(const py::object& optimizer, const py::object& part, double scale);

    // The arrays that parameters change places with, by key; parameters without one are left alone.
    static Member of_exchange(const py::dict& arrays);

    // Parameters move towards their z in an optimizer's state. given: that state, a weight, whether parameters have
    // masters, whether state is narrow. Parameters without state are left alone.
    static Member of_interpolation(const py::tuple& given);

    // A step whose state is the caller's. seed: None, or of the parameters' stochastic rounding.
    static Member of_call(const Rule& rule, const py::object& state, Settings settings,
                          const py::object& seed = py::none());

    Member(const Rule& member_rule, const py::object& own_state, Settings own_settings)
        : rule(&member_rule), names(&names_of(member_rule)), state(own_state), settings(std::move(own_settings)) {}

    static Member of_tensors(const TensorGroup& group, const py::dict& state, double scale);

    bool averages() const { return settings.values[kAverage] != kOff; }

    // Of a parameter: the rule's, and the average.
    int state_count() const { return static_cast<int>(rule->states.size()) + (averages() ? 1 : 0); }

    bool has_state_by_key() const { return needs_state || !optimizer.is_none(); }

    py::handle state_name(int i) const {
        const auto index = static_cast<std::size_t>(i);
        if (tensors) return tensors->name(tensors->numbers + index);
        return index < names->states.size() ? py::handle(names->states[index]) : py::handle(optimizer_names().average);
    }

    std::size_t scalar_count() const { return tensors ? tensors->numbers : names->scalars.size(); }

    py::handle scalar_name(int i) const {
        const auto index = static_cast<std::size_t>(i);
        return tensors ? tensors->name(index) : py::handle(names->scalars[index]);
    }

    const Rule* rule;
    const Names* names;
    py::object optimizer = py::none();  // None in a step whose state is the caller's
    py::object state;                   // by key, or the caller's, in a container like the parameters'
    Settings settings;
    bool needs_state = false;  // parameters without state are left alone

    const TensorGroup* tensors = nullptr;  // of PyTorch, or null
    bool counts_steps = false;             // the first number is that of steps

    bool masters = false;       // a parameter narrower than arithmetic is the rounded copy of one that isn't
    bool narrow_state = false;  // stored as bfloat16, and rounded stochastically
    bool stochastic = false;    // parameters are rounded so
    std::uint64_t seed = 0, update = 1;
    Py_ssize_t state_place = 0, counts_place = 0;  // of the next parameter, if all come in the dicts' order
    const Program* program = nullptr;              // of the last parameter
    bool program_has_new_average = false;
};

}  // namespace fusedstep
