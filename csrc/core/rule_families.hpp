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

// What a mean that began at 0 is divided by.
inline double bias_correction(const Program& p, double beta) {
    return 1 - std::pow(beta, static_cast<double>(p.t));
}

struct Corrections {
    Corrections(const Program& p, double beta1, double beta2)
        : first(bias_correction(p, beta1)), second(bias_correction(p, beta2)), root(std::sqrt(second)) {}

    const double first, second, root;
};

inline constexpr Hyperparameter kAdamBeta1 = {"beta1", 0.9, Limit::kBelowOne};
inline constexpr Hyperparameter kAdamBeta2 = {"beta2", 0.999, Limit::kBelowOne};
inline constexpr Hyperparameter kMomentum = {"momentum", 0.9, Limit::kUpToOne};
inline constexpr Hyperparameter kEpsInsideRoot = {"eps_inside_root", 0, Limit::kFlag};

}  // namespace fusedstep
