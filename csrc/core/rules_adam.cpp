// Adam.
#include "rule_families.hpp"

namespace fusedstep {
namespace {

void adam(Program& p) {
    const auto [beta1, beta2, eps, inside, corrected] = own<5>(p);
    const double t = static_cast<double>(p.t);
    const double correction = 1 - std::pow(beta2, t), root = std::sqrt(correction);
    const double step = p.values[kLearningRate] * root / (1 - std::pow(beta1, t));
    const double eps_inside = corrected != 0 ? eps * correction : eps, eps_outside = corrected != 0 ? eps * root : eps;
    p.call("adam", {kParameter, kGradient, kState, kState + 1},
           {step, 1 - beta1, 1 - beta2, inside != 0 ? eps_inside : 0, inside != 0 ? 0 : eps_outside});
}

std::vector<Hyperparameter> adam_options(double weight_decay, double decoupled) {
    return with_options(1e-3,
                        {{"beta1", 0.9, Limit::kBelowOne},
                         {"beta2", 0.999, Limit::kBelowOne},
                         {"eps", 1e-8, Limit::kNotNegative},
                         kEpsInsideRoot,
                         {"eps_corrected", 1, Limit::kFlag}},
                        weight_decay, decoupled);
}

}  // namespace

std::vector<Rule> adam_rules() {
    return {
        {"adam", {"m", "v"}, adam_options(0, 0), true, adam},
        {"adamw", {"m", "v"}, adam_options(0.01, 1), true, adam},
    };
}

}  // namespace fusedstep
