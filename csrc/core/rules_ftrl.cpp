// Follow the regularized leader.
#include "rule_families.hpp"

namespace fusedstep {

std::vector<Rule> ftrl_rules() {
    return {
        {"ftrl",
         {{"n", "initial_accumulator"}, "z"},
         with_options(1e-3, {{"initial_accumulator", 0.1, Limit::kNotNegative},
                             {"l1", 0, Limit::kNotNegative},
                             {"l2", 0, Limit::kNotNegative},
                             {"l2_shrinkage", 0, Limit::kNotNegative},
                             {"beta", 0, Limit::kNotNegative}}),
         false,
         [](Program& p) {
             const auto [initial, l1, l2, l2_shrinkage, beta] = own<5>(p);
             p.call("ftrl", {kParameter, kGradient, kState, kState + 1},
                    {p.values[kLearningRate], beta, l1, 2 * l2, 2 * l2_shrinkage});
         }},
    };
}

}  // namespace fusedstep
