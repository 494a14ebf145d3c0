// The rules as the C interface describes them.
#include <cmath>
#include <limits>

#include "c_checks.hpp"
#include "c_functions.hpp"
#include "rules.hpp"

namespace fusedstep {
namespace {

static_assert(FUSEDSTEP_MAX_STATES == kMaxStates - 1 && FUSEDSTEP_MAX_SCALARS == kMaxScalars);

const Rule& rule_named(const char* name) {
    require(name != nullptr, FUSEDSTEP_NULL_POINTER, "rule");
    const Rule* const rule = find_rule(name);
    require(rule != nullptr, FUSEDSTEP_UNKNOWN_RULE, "rule");
    return *rule;
}

double minimum_of(Limit limit) {
    return limit == Limit::kNotNegativeOrOff || limit == Limit::kUpToOneOrOff ? kOff : 0;
}

double maximum_of(Limit limit) {
    switch (limit) {
        case Limit::kNotNegative:
        case Limit::kNotNegativeOrOff:
            return std::numeric_limits<double>::max();
        case Limit::kBelowOne:
            return std::nextafter(1.0, 0.0);
        case Limit::kUpToOne:
        case Limit::kUpToOneOrOff:
        case Limit::kFlag:
            return 1;
    }
    return 0;
}

}  // namespace

int rule_count() noexcept {
    return static_cast<int>(rules().size());
}

int describe_rule(std::int32_t index, fusedstep_rule* result, std::size_t size) noexcept {
    return guarded(nullptr, [&] {
        require(index >= 0 && index < rule_count(), FUSEDSTEP_OUT_OF_RANGE, "index");
        const Rule& rule = rules()[static_cast<std::size_t>(index)];
        fusedstep_rule description{};
        description.name = rule.name;
        for (const State& state : rule.states) {
            if (state.shape != State::kWhole)
                description.shapes[description.state_count] = state.shape == State::kRows ? "rows" : "columns";
            description.states[description.state_count] = state.name;
            description.starts[description.state_count++] = state.start;
        }
        for (const Scalar& scalar : rule.scalars) {
            description.scalars[description.scalar_count] = scalar.name;
            description.scalar_starts[description.scalar_count++] = scalar.start;
        }
        description.hyperparameter_count = static_cast<std::int32_t>(rule.hyperparameters.size());
        write_struct(description, result, size, sizeof description);
    });
}

int describe_hyperparameter(const char* name, std::int32_t index, fusedstep_hyperparameter* result,
                            std::size_t size) noexcept {
    return guarded(nullptr, [&] {
        const Rule& rule = rule_named(name);
        require(index >= 0 && static_cast<std::size_t>(index) < rule.hyperparameters.size(), FUSEDSTEP_OUT_OF_RANGE,
                "index");
        const Hyperparameter& given = rule.hyperparameters[static_cast<std::size_t>(index)];
        const fusedstep_hyperparameter description = {given.name,
                                                      given.fallback,
                                                      minimum_of(given.limit),
                                                      maximum_of(given.limit),
                                                      given.limit == Limit::kFlag ? 1 : 0,
                                                      index > kScale ? 1 : 0};
        write_struct(description, result, size, sizeof description);
    });
}

int defaults(const char* name, fusedstep_settings* result, std::size_t size) noexcept {
    return guarded(nullptr, [&] {
        const Rule& rule = rule_named(name);
        const auto fallback = [&](int i) { return rule.hyperparameters[static_cast<std::size_t>(i)].fallback; };
        const fusedstep_settings settings = {size,
                                             rule.name,
                                             1,
                                             fallback(kLearningRate),
                                             fallback(kWeightDecay),
                                             fallback(kDecoupled),
                                             fallback(kScale),
                                             nullptr,
                                             0,
                                             0,
                                             0};
        write_struct(settings, result, size, offsetof(fusedstep_settings, lr));
    });
}

}  // namespace fusedstep
