// Rules that divide by the root of a sum or mean of squared gradients.
#include "rule_families.hpp"

namespace fusedstep {
namespace {

void adagrad(Program& p) {
    const auto [eps, inside] = own<2>(p);
    p.call("adagrad", {kParameter, kGradient, kState},
           {p.values[kLearningRate], inside != 0 ? eps : 0, inside != 0 ? 0 : eps});
}

void adadelta(Program& p) {
    const auto [rho, eps, one_root] = own<3>(p);
    p.call(one_root != 0 ? "adadelta_one_root" : "adadelta", {kParameter, kGradient, kState, kState + 1},
           {p.values[kLearningRate], eps, rho, 1 - rho});
}

template <bool centered> void rmsprop(Program& p) {
    const auto [decay_rate, eps, inside] = own<3>(p);
    const double lr = p.values[kLearningRate], c = 1 - decay_rate;
    const double eps_inside = inside != 0 ? eps : 0, eps_outside = inside != 0 ? 0 : eps;
    if constexpr (centered)
        p.call("rmsprop_centered", {kParameter, kGradient, kState, kState + 1},
               {lr, decay_rate, c, eps_inside, eps_outside});
    else
        p.call("rmsprop", {kParameter, kGradient, kState}, {lr, decay_rate, c, eps_inside, eps_outside});
}

template <bool centered> void rmsprop_momentum(Program& p) {
    const auto [decay_rate, eps, inside, initial, a, lr_in_velocity] = own<6>(p);
    const double lr = p.values[kLearningRate], c = 1 - decay_rate;
    const double lr_inside = lr_in_velocity != 0 ? lr : 1, lr_outside = lr_in_velocity != 0 ? 1 : lr;
    const double eps_inside = inside != 0 ? eps : 0, eps_outside = inside != 0 ? 0 : eps;
    if constexpr (centered)
        p.call("rmsprop_centered_momentum", {kParameter, kGradient, kState, kState + 1, kState + 2},
               {lr_inside, lr_outside, a, decay_rate, c, eps_inside, eps_outside});
    else
        p.call("rmsprop_momentum", {kParameter, kGradient, kState, kState + 1},
               {lr_inside, lr_outside, a, decay_rate, c, eps_inside, eps_outside});
}

constexpr Hyperparameter kInitial = {"initial_accumulator", 0, Limit::kNotNegative};

std::vector<Hyperparameter> rmsprop_options(bool has_momentum) {
    std::vector<Hyperparameter> own = {
        {"decay_rate", 0.99, Limit::kBelowOne}, {"eps", 1e-7, Limit::kNotNegative}, kEpsInsideRoot, kInitial};
    if (has_momentum) own.insert(own.end(), {kMomentum, {"lr_in_velocity", 0, Limit::kFlag}});
    return with_options(0.01, own);
}

}  // namespace

std::vector<Rule> adaptive_rules() {
    const State h = {"h", kInitial.name};
    return {
        {"adagrad",
         {h},
         with_options(0.01, {{"eps", 1e-7, Limit::kNotNegative}, kEpsInsideRoot, kInitial}),
         false,
         adagrad},
        {"adadelta",
         {"h", "d"},
         with_options(
             1, {{"rho", 0.9, Limit::kBelowOne}, {"eps", 1e-6, Limit::kNotNegative}, {"one_root", 0, Limit::kFlag}}),
         false,
         adadelta},
        {"rmsprop", {h}, rmsprop_options(false), false, rmsprop<false>},
        {"rmsprop_centered", {h, "mean"}, rmsprop_options(false), false, rmsprop<true>},
        {"rmsprop_momentum", {h, "v"}, rmsprop_options(true), false, rmsprop_momentum<false>},
        {"rmsprop_centered_momentum", {h, "mean", "v"}, rmsprop_options(true), false, rmsprop_momentum<true>},
    };
}

}  // namespace fusedstep
