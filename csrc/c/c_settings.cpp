#include "c_settings.hpp"

#include <algorithm>

#include "c_checks.hpp"
#include "c_functions.hpp"

namespace fusedstep {
namespace {

void set_option(const fusedstep_option& option, Resolved& resolved, unsigned& given) {
    require(option.name != nullptr, FUSEDSTEP_NULL_POINTER, "options");
    const int i = resolved.rule->index_of(option.name);
    require(i > kScale && (given >> i & 1) == 0, FUSEDSTEP_UNKNOWN_HYPERPARAMETER, "options");
    given |= 1u << i;
    resolved.values[i] = option.value;
}

Resolved resolve(const fusedstep_settings* given) {
    constexpr std::size_t kLeast = offsetof(fusedstep_settings, lr);
    fusedstep_settings settings{};
    read_sized_struct(given, kLeast, "settings", settings);
    const std::size_t size = settings.size;
    require(settings.rule != nullptr, FUSEDSTEP_NULL_POINTER, "rule");
    require(defaults(settings.rule, &settings, sizeof settings) == FUSEDSTEP_OK, FUSEDSTEP_UNKNOWN_RULE, "rule");
    read_struct(given, size, kLeast, "settings", settings);

    Resolved resolved;
    resolved.rule = find_rule(settings.rule);
    resolved.t = settings.t;
    require(settings.t >= 1, FUSEDSTEP_OUT_OF_RANGE, "t");
    resolved.stochastic = checked_flag(settings.stochastic, "stochastic");
    resolved.seed = settings.seed;
    const std::vector<Hyperparameter>& known = resolved.rule->hyperparameters;
    for (std::size_t i = 0; i < known.size(); ++i) resolved.values[i] = known[i].fallback;
    resolved.values[kLearningRate] = settings.lr;
    resolved.values[kWeightDecay] = settings.weight_decay;
    resolved.values[kDecoupled] = settings.decoupled;
    resolved.values[kScale] = settings.scale;
    require(settings.option_count >= 0 && settings.option_count <= kMaxHyperparameters, FUSEDSTEP_BAD_SIZE,
            "option_count");
    if (settings.option_count > 0) require_pointer(settings.options, "options");
    unsigned options = 0;
    for (std::int64_t i = 0; i < settings.option_count; ++i) set_option(settings.options[i], resolved, options);
    for (std::size_t i = 0; i < known.size(); ++i)
        require(is_within(known[i].limit, resolved.values[i]), FUSEDSTEP_OUT_OF_RANGE, known[i].name);
    return resolved;
}

bool has_scalars(const Programs::Built& built, const double* scalars) {
    const std::size_t count = built.resolved.rule->scalars.size();
    return count == 0 || (scalars && std::equal(scalars, scalars + count, built.program.old_scalars));
}

}  // namespace

const Programs::Built& Programs::of(const fusedstep_settings* settings, int arithmetic, const double* scalars) {
    // A few are remembered by address: groups of parameters usually take turns.
    constexpr std::ptrdiff_t kRemembered = 8;
    const auto end = built_.rbegin() + std::min<std::ptrdiff_t>(kRemembered, built_.rend() - built_.rbegin());
    const auto found = std::find_if(built_.rbegin(), end, [=](const Built& each) {
        return each.settings == settings && each.program.arithmetic == arithmetic && has_scalars(each, scalars);
    });
    if (found != end) return *found;
    const Resolved resolved = resolve(settings);
    if (!built_.empty() && built_.back().resolved == resolved && built_.back().program.arithmetic == arithmetic &&
        has_scalars(built_.back(), scalars))
        return built_.back();
    if (!resolved.rule->scalars.empty()) require_pointer(scalars, "scalars");
    built_.push_back({settings, resolved, {}});
    Program& program = built_.back().program;
    build(*resolved.rule, arithmetic, resolved.values, resolved.t, clipping_, program, scalars);
    require(program.has_finite_coefficients(), FUSEDSTEP_OUT_OF_RANGE, "settings");
    return built_.back();
}

}  // namespace fusedstep
