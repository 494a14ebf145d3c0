// What the families of rules have in common. Each rule is a row of its family's list, and the function that adds its
// stages to a program.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <vector>

#include "rules.hpp"

namespace fusedstep {

std::vector<Rule> momentum_rules();
std::vector<Rule> adaptive_rules();
std::vector<Rule> adam_rules();
std::vector<Rule> factored_rules();
std::vector<Rule> layerwise_rules();
std::vector<Rule> adam_variants();
std::vector<Rule> sign_rules();
std::vector<Rule> schedule_free_rules();
std::vector<Rule> ftrl_rules();

// The values of a rule's own hyper-parameters.
template <std::size_t n> std::array<double, n> own(const Program& program) {
    std::array<double, n> values;
    std::copy_n(program.values + kFirstOwn, n, values.begin());
    return values;
}

// A rule's own hyper-parameters behind those that all have.
std::vector<Hyperparameter> with_options(double lr, std::vector<Hyperparameter> own, double weight_decay = 0,
                                         double decoupled = 0);

inline constexpr Hyperparameter kMomentum = {"momentum", 0.9, Limit::kUpToOne};
inline constexpr Hyperparameter kEpsInsideRoot = {"eps_inside_root", 0, Limit::kFlag};

}  // namespace fusedstep
