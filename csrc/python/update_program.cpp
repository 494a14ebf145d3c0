// The numbers of steps, the hyper-parameters and the programs of an update's parameters.
#include <algorithm>

#include "update.hpp"

namespace fusedstep {

// The number of the parameter's step, from 1; a fresh one makes its first.
std::int64_t Update::count_step(const Pair& pair, Member& member, bool fresh) {
    const Settings& settings = member.settings;
    if (settings.t != 0) return settings.t;
    if (!settings.counts) return 1;
    if (member.optimizer.is_none()) {
        const py::object t = element_of("t", settings.counts, pair);
        return checked_count(pair.name("t").text(), t);
    }
    std::int64_t t = 1;
    if (!fresh) {
        const py::object had = find_in_order(settings.counts, pair.key, member.counts_place);
        // State that was put there by hand has made the optimizer's steps.
        t = next_step({"steps", pair.key}, had ? had : py::object(member.optimizer.attr(optimizer_names().iterations)));
    }
    if (new_counts_.empty()) new_counts_.reserve(pairs_.list.size());
    new_counts_.push_back({&pair, &member, t});
    return t;
}

// The hyper-parameters that are given for each parameter.
void Update::find_values(const Pair& pair, Member& member) const {
    for (const auto& [index, source] : member.settings.own_values) {
        const Hyperparameter& hyperparameter = member.rule->hyperparameters[static_cast<std::size_t>(index)];
        const py::object value = element_of(hyperparameter.name, source, pair);
        member.settings.values[index] = checked_value(hyperparameter, value, pair.name(hyperparameter.name));
    }
}

const Program& Update::program(Member& member, int arithmetic, std::int64_t t, Fresh fresh) {
    const bool is_known = member.program && member.program->arithmetic == arithmetic && member.program->t == t &&
                          member.program->first == (fresh.state || t == 1) && member.settings.own_values.empty() &&
                          !fresh.average && !member.program_has_new_average &&
                          std::equal(scalars_, scalars_ + member.rule->scalars.size(), member.program->old_scalars);
    if (is_known) return *member.program;
    Values values;
    std::copy_n(member.settings.values, member.rule->hyperparameters.size(), values);
    if (fresh.average) values[kAverage] = 0;
    if (has_tensors_) values[kLearningRate] /= 1 + static_cast<double>(t - 1) * member.tensors->lr_decay;
    Program& made = has_program_ ? more_programs_.emplace_back() : first_program_;
    has_program_ = true;
    const Clipping clipping = {options_.measure == Measure::kGradients, options_.clip_norm.has_value()};
    made.has_single_scalars =
        has_tensors_ && shared_[kScalars + (member.counts_steps ? 1 : 0)].view.storage == kFloat32;
    build(*member.rule, arithmetic, values, t, clipping, made, scalars_, fresh.state);
    member.program = &made;
    member.program_has_new_average = fresh.average;
    return made;
}

}  // namespace fusedstep
