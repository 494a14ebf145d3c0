// Rules whose step has the same size for every weight.
#include "rule_families.hpp"

namespace fusedstep {
namespace {

void sign_sgd(Program& p) {
    p.call("sign_sgd", {kParameter, kGradient}, {p.values[kLearningRate]});
}

void signum(Program& p) {
    const auto [a] = own<1>(p);
    p.call("signum", {kParameter, kGradient, kState}, {p.values[kLearningRate], a, 1 - a});
}

void lion(Program& p) {
    const auto [beta1, beta2] = own<2>(p);
    p.call("lion", {kParameter, kGradient, kState}, {p.values[kLearningRate], beta1, 1 - beta1, beta2, 1 - beta2});
}

}  // namespace

std::vector<Rule> sign_rules() {
    return {
        {"sign_sgd", {}, with_options(0.001, {}), false, sign_sgd},
        {"signum", {"m"}, with_options(0.001, {kMomentum}), false, signum},
        {"lion",
         {"m"},
         with_options(1e-4, {{"beta1", 0.9, Limit::kBelowOne}, {"beta2", 0.99, Limit::kBelowOne}}, 0, 1),
         false,
         lion},
    };
}

}  // namespace fusedstep
