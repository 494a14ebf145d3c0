// Rules that change Adam's moments, or what is made of them.
#include "rule_families.hpp"

namespace fusedstep {
namespace {

void adabelief(Program& p) {
    const auto [beta1, beta2, eps, eps_root] = own<4>(p);
    const Corrections corrections(p, beta1, beta2);
    const double root = corrections.root, step = p.values[kLearningRate] * root / corrections.first;
    p.call("adabelief", {kParameter, kGradient, kState, kState + 1},
           {step, 1 - beta1, 1 - beta2, eps_root, eps * root});
}

void yogi(Program& p) {
    const auto [beta1, beta2, eps] = own<3>(p);
    const Corrections corrections(p, beta1, beta2);
    const double root = corrections.root, step = p.values[kLearningRate] * root / corrections.first;
    p.call("yogi", {kParameter, kGradient, kState, kState + 1}, {1 - beta1, step, 1 - beta2, eps * root});
}

// Without corrections.
void flower_yogi(Program& p) {
    const auto [beta1, beta2, eps] = own<3>(p);
    p.call("flower_yogi", {kParameter, kGradient, kState, kState + 1},
           {beta1, 1 - beta1, p.values[kLearningRate], 1 - beta2, eps});
}

void laprop(Program& p) {
    const auto [beta1, beta2, eps] = own<3>(p);
    const Corrections corrections(p, beta1, beta2);
    p.call(
        "laprop", {kParameter, kGradient, kState, kState + 1},
        {p.values[kLearningRate] / corrections.first, 1 - beta1, 1 - beta2, corrections.root, eps * corrections.root});
}

void adopt(Program& p) {
    const auto [beta1, beta2, eps, exponent] = own<4>(p);
    const double lr = p.values[kLearningRate], c1 = 1 - beta1, c2 = 1 - beta2;
    if (p.first) return p.call("adopt_first", {kParameter, kGradient, kState + 1}, {});
    if (p.own_decay != 0) p.call("shrink", {kParameter}, {1 - lr * p.own_decay});
    if (exponent == kOff) return p.call("adopt", {kParameter, kGradient, kState, kState + 1}, {lr, c1, c2, eps});
    const double bound = std::pow(static_cast<double>(p.t - 1), exponent);
    p.call("adopt_clipped", {kParameter, kGradient, kState, kState + 1}, {bound, lr, c1, c2, eps});
}

// After how many steps a gradient counts half.
double half_life(double beta) {
    return std::log(0.5) / std::log(beta);
}

void ademamix(Program& p) {
    const auto [beta1, beta2, last_beta3, last_alpha, eps, t_alpha, t_beta3] = own<7>(p);
    const double t = static_cast<double>(p.t), lr = p.values[kLearningRate];
    const double alpha = t < t_alpha ? last_alpha * (t / t_alpha) : last_alpha;
    double beta3 = last_beta3;
    if (t < t_beta3) {
        const double part = t / t_beta3;
        beta3 = std::pow(0.5, 1 / ((1 - part) * half_life(beta1) + part * half_life(last_beta3)));
    }
    const Corrections corrections(p, beta1, beta2);
    const double root = corrections.root, step = lr * root / corrections.first;
    p.call("ademamix", {kParameter, kGradient, kState, kState + 1, kState + 2},
           {step, lr * root * alpha, 1 - beta1, 1 - beta2, 1 - beta3, eps * root});
}

void adan(Program& p) {
    const auto [beta1, beta2, beta3, eps, eps_root, weight, no_prox] = own<7>(p);
    const double lr = p.values[kLearningRate], decay = lr * p.own_decay, ahead = weight == kOff ? beta2 : weight;
    const Corrections corrections(p, beta1, beta2);
    const double correction3 = bias_correction(p, beta3), root = std::sqrt(correction3);
    if (no_prox != 0 && decay != 0) p.call("shrink", {kParameter}, {1 - decay});
    p.call(p.first ? "adan_first" : "adan", {kParameter, kGradient, kState, kState + 1, kState + 2, kState + 3},
           {lr * root / corrections.first, lr * root * ahead / corrections.second, 1 - beta1, 1 - beta2, 1 - beta3,
            ahead, eps_root * correction3, eps * root, no_prox != 0 ? 1 : 1 / (1 + decay)});
}

}  // namespace

std::vector<Rule> adam_variants() {
    const auto eps = [](double fallback) { return Hyperparameter{"eps", fallback, Limit::kNotNegative}; };
    const auto eps_root = [](double fallback) { return Hyperparameter{"eps_root", fallback, Limit::kNotNegative}; };
    return {
        {"adabelief",
         {"m", "s"},
         with_options(1e-3, {kAdamBeta1, kAdamBeta2, eps(1e-16), eps_root(1e-16)}, 0, 1),
         true,
         adabelief},
        {"yogi",
         {{"m", "initial_m"}, {"v", "initial_accumulator"}},
         with_options(0.01, {kAdamBeta1,
                             kAdamBeta2,
                             eps(1e-3),
                             {"initial_accumulator", 1e-6, Limit::kNotNegative},
                             {"initial_m", 0, Limit::kNotNegative}}),
         true,
         yogi},
        {"flower_yogi",
         {"m", "v"},
         with_options(0.01, {kAdamBeta1, {"beta2", 0.99, Limit::kBelowOne}, eps(1e-3)}),
         false,
         flower_yogi},
        {"laprop", {"m", "v"}, with_options(4e-4, {kAdamBeta1, kAdamBeta2, eps(1e-15)}), true, laprop},
        {"adopt",
         {"m", "v"},
         with_options(1e-3, {kAdamBeta1,
                             {"beta2", 0.9999, Limit::kBelowOne},
                             eps(1e-6),
                             {"clip_exponent", 0.25, Limit::kNotNegativeOrOff}}),
         true,
         adopt,
         {},
         true},
        {"ademamix",
         {"m1", "m2", "v"},
         with_options(1e-3,
                      {kAdamBeta1,
                       kAdamBeta2,
                       {"beta3", 0.9999, Limit::kBelowOne},
                       {"alpha", 5, Limit::kNotNegative},
                       eps(1e-8),
                       {"t_alpha", kOff, Limit::kNotNegativeOrOff},
                       {"t_beta3", kOff, Limit::kNotNegativeOrOff}},
                      0, 1),
         true,
         ademamix},
        {"adan",
         {"m", "v", "n", "g_prev"},
         with_options(1e-3,
                      {{"beta1", 0.98, Limit::kBelowOne},
                       {"beta2", 0.92, Limit::kBelowOne},
                       {"beta3", 0.99, Limit::kBelowOne},
                       eps(1e-8),
                       eps_root(0),
                       {"difference_weight", kOff, Limit::kNotNegativeOrOff},
                       {"no_prox", 0, Limit::kFlag}},
                      0, 1),
         true,
         adan,
         {},
         true},
    };
}

}  // namespace fusedstep
