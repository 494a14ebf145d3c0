// Rules that divide by the root of a sum or mean of squared gradients.
#include "rule_families.hpp"

namespace fusedstep {
namespace {

void adagrad(Program& p) {
    const auto [eps, inside] = own<2>(p);
    p.call("adagrad", {kParameter, kGradient, kState},
           {p.values[kLearningRate], inside != 0 ? eps : 0, inside != 0 ? 0 : eps});
}

void rmsprop(Program& p) {
    const auto [decay_rate, eps, inside] = own<3>(p);
    p.call("rmsprop", {kParameter, kGradient, kState},
           {p.values[kLearningRate], decay_rate, 1 - decay_rate, inside != 0 ? eps : 0, inside != 0 ? 0 : eps});
}

}  // namespace

std::vector<Rule> adaptive_rules() {
    return {
        {"adagrad", {"h"}, with_options(0.01, {{"eps", 1e-7, Limit::kNotNegative}, kEpsInsideRoot}), false, adagrad},
        {"rmsprop",
         {"h"},
         with_options(0.01,
                      {{"decay_rate", 0.99, Limit::kBelowOne}, {"eps", 1e-7, Limit::kNotNegative}, kEpsInsideRoot}),
         false,
         rmsprop},
    };
}

}  // namespace fusedstep
