#include "rules.hpp"

#include <cstring>
#include <limits>

#include "rule_families.hpp"

namespace fusedstep {

std::vector<Hyperparameter> with_options(double lr, std::vector<Hyperparameter> own, double weight_decay,
                                         double decoupled) {
    std::vector<Hyperparameter> all = {
        {"lr", lr, Limit::kNotNegative},
        {"weight_decay", weight_decay, Limit::kNotNegative},
        {"decoupled", decoupled, Limit::kFlag},
        {"scale", 1, Limit::kNotNegative},
        {"maximize", 0, Limit::kFlag},
        {"clip_value", kOff, Limit::kNotNegativeOrOff},
        {"average", kOff, Limit::kUpToOneOrOff},
        {"cautious_decay", 0, Limit::kFlag},
        {"max_lr", kOff, Limit::kNotNegativeOrOff},
        {"decay_after", 0, Limit::kFlag},
    };
    all.insert(all.end(), own.begin(), own.end());
    return all;
}

const std::vector<Rule>& rules() {
    static const std::vector<Rule> all = [] {
        std::vector<Rule> joined;
        for (const auto& family : {momentum_rules(), adaptive_rules(), adam_rules(), adam_variants(), sign_rules(),
                                   schedule_free_rules(), ftrl_rules(), layerwise_rules(), factored_rules()})
            joined.insert(joined.end(), family.begin(), family.end());
        return joined;
    }();
    return all;
}

const Rule& accumulation() {
    static const Rule rule = {"accumulation", {}, with_options(0, {}), false, [](Program& p) {
                                  p.pass[0] = {};  // the scale is part of the stage
                                  p.call("accumulate", {kParameter, kGradient}, {p.values[kScale]});
                              }};
    return rule;
}

const Rule& exchange() {
    static const Rule rule = {"exchange", {"other"}, with_options(0, {}), false, [](Program& p) {
                                  p.call("exchange", {kParameter, kState}, {});
                              }};
    return rule;
}

static void muon_stages(Program& p) {
    const auto [momentum, nesterov] = own<2>(p);
    p.call("muon_direction", {kState, kState + 1, kGradient}, {1 - momentum, nesterov != 0 ? 1 - momentum : 0});
    p.end_pass_for_caller(kState + 1);
    if (p.own_decay != 0) p.call("shrink", {kParameter}, {1 - p.values[kLearningRate] * p.own_decay});
    p.call("muon", {kParameter, kGradient, kState, kState + 1}, {p.values[kLearningRate], 1 - momentum});
}

const Rule& muon() {
    static const Rule rule = {"muon",
                              {"m", {"direction", kMadeEachStep}},
                              with_options(0.02, {{"momentum", 0.95, Limit::kUpToOne}, {"nesterov", 1, Limit::kFlag}}),
                              false,
                              muon_stages,
                              {},
                              true};
    return rule;
}

const Rule& interpolation() {
    static const Rule rule = {
        "interpolation", {"z"}, with_options(0, {{"weight", 0, Limit::kNotNegative}}), false, [](Program& p) {
            p.call("average", {kParameter, kState}, {p.values[kFirstOwn]});
        }};
    return rule;
}

const Rule* find_rule(const char* name) {
    for (const Rule& rule : rules())
        if (std::strcmp(rule.name, name) == 0) return &rule;
    return nullptr;
}

int Rule::index_of(const std::string& hyperparameter) const {
    for (std::size_t i = 0; i < hyperparameters.size(); ++i)
        if (hyperparameter == hyperparameters[i].name) return static_cast<int>(i);
    return -1;
}

bool is_within(Limit limit, double value) {
    if (value == kOff) return limit == Limit::kNotNegativeOrOff || limit == Limit::kUpToOneOrOff;
    if (!(value >= 0 && value <= std::numeric_limits<double>::max())) return false;
    switch (limit) {
        case Limit::kNotNegative:
        case Limit::kNotNegativeOrOff:
            return true;
        case Limit::kUpToOne:
        case Limit::kUpToOneOrOff:
            return value <= 1;
        case Limit::kBelowOne:
            return value < 1;
        case Limit::kFlag:
            return value == 0 || value == 1;
    }
    return false;
}

}  // namespace fusedstep
