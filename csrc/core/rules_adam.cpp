// Adam and its relatives.
#include <limits>

#include "rule_families.hpp"

namespace fusedstep {
namespace {

// Epsilon inside and outside of a root of v that isn't corrected.
struct Epsilons {
    Epsilons(const Corrections& corrections, double eps, double is_inside, double corrected)
        : inside(is_inside == 0   ? 0
                 : corrected != 0 ? eps * corrections.second
                                  : eps),
          outside(is_inside != 0   ? 0
                  : corrected != 0 ? eps * corrections.root
                                   : eps) {}

    const double inside, outside;
};

void adam(Program& p) {
    const auto [beta1, beta2, eps, inside, corrected] = own<5>(p);
    const Corrections corrections(p, beta1, beta2);
    const Epsilons epsilons(corrections, eps, inside, corrected);
    const double step = p.values[kLearningRate] * corrections.root / corrections.first;
    p.call("adam", {kParameter, kGradient, kState, kState + 1},
           {step, 1 - beta1, 1 - beta2, epsilons.inside, epsilons.outside});
}

// Without corrections, which its caller makes part of the learning rate. That is a double, the sum of three floats.
void sklearn_adam(Program& p) {
    const auto [beta1, beta2, eps] = own<3>(p);
    const double lr = p.values[kLearningRate];
    const bool is_split = p.arithmetic == kFloat32 && lr <= std::numeric_limits<float>::max();
    const double high = is_split ? static_cast<float>(lr) : lr;
    const double middle = is_split ? static_cast<float>(lr - high) : 0;
    p.call("sklearn_adam", {kParameter, kGradient, kState, kState + 1},
           {high, middle, is_split ? lr - high - middle : 0, beta1, beta2, 1 - beta1, 1 - beta2, eps});
}

void amsgrad(Program& p) {
    const auto [beta1, beta2, eps, inside, corrected, max_corrected] = own<6>(p);
    const Corrections corrections(p, beta1, beta2);
    const bool is_corrected = max_corrected != 0;  // then the root is that of a corrected v
    const Epsilons epsilons(corrections, eps, inside, is_corrected ? 0 : corrected);
    const double factor = is_corrected ? 1 / corrections.second : 1;
    const double lr = p.values[kLearningRate], step = (is_corrected ? lr : lr * corrections.root) / corrections.first;
    p.call("amsgrad", {kParameter, kGradient, kState, kState + 1, kState + 2},
           {step, 1 - beta1, 1 - beta2, factor, epsilons.inside, epsilons.outside});
}

void adamax(Program& p) {
    const auto [beta1, beta2, eps, inside] = own<4>(p);
    const double step = p.values[kLearningRate] / bias_correction(p, beta1);
    p.call("adamax", {kParameter, kGradient, kState, kState + 1},
           {step, 1 - beta1, beta2, inside != 0 ? eps : 0, inside != 0 ? 0 : eps});
}

void radam(Program& p) {
    const auto [beta1, beta2, eps, inside, corrected, threshold] = own<6>(p);
    const double lr = p.values[kLearningRate], t = static_cast<double>(p.t);
    const Corrections corrections(p, beta1, beta2);
    const double most = 2 / (1 - beta2) - 1, length = most - 2 * t * std::pow(beta2, t) / corrections.second;
    if (!(length > std::max(threshold, 4.0))) {  // up to 4 there is no rectification
        p.call("radam_start", {kParameter, kGradient, kState, kState + 1},
               {lr / corrections.first, 1 - beta1, 1 - beta2});
        return;
    }
    const Epsilons epsilons(corrections, eps, inside, corrected);
    const double rectification = std::sqrt((length - 4) * (length - 2) * most / ((most - 4) * (most - 2) * length));
    p.call("adam", {kParameter, kGradient, kState, kState + 1},
           {lr * rectification * corrections.root / corrections.first, 1 - beta1, 1 - beta2, epsilons.inside,
            epsilons.outside});
}

void nadam(Program& p) {
    const auto [beta1, beta2, eps, inside, corrected, momentum_decay] = own<6>(p);
    const double lr = p.values[kLearningRate], t = static_cast<double>(p.t);
    const Corrections corrections(p, beta1, beta2);
    const Epsilons epsilons(corrections, eps, inside, corrected);
    const double mu = beta1 * (1 - 0.5 * std::pow(0.96, t * momentum_decay));
    const double next = beta1 * (1 - 0.5 * std::pow(0.96, (t + 1) * momentum_decay));
    const double product = p.rounded(p.scalars[0] * p.rounded(mu));
    p.scalars[0] = product;
    p.call("nadam", {kParameter, kGradient, kState, kState + 1},
           {lr * next / (1 - product * next) * corrections.root, lr * (1 - mu) / (1 - product) * corrections.root,
            1 - beta1, 1 - beta2, epsilons.inside, epsilons.outside});
}

std::vector<Hyperparameter> adam_options(double lr, double weight_decay, double decoupled, double eps_corrected = 1,
                                         std::vector<Hyperparameter> more = {}) {
    std::vector<Hyperparameter> own = {kAdamBeta1,
                                       kAdamBeta2,
                                       {"eps", 1e-8, Limit::kNotNegative},
                                       kEpsInsideRoot,
                                       {"eps_corrected", eps_corrected, Limit::kFlag}};
    own.insert(own.end(), more.begin(), more.end());
    return with_options(lr, own, weight_decay, decoupled);
}

}  // namespace

std::vector<Rule> adam_rules() {
    return {
        {"adam", {"m", "v"}, adam_options(1e-3, 0, 0), true, adam},
        {"adamw", {"m", "v"}, adam_options(1e-3, 0.01, 1), true, adam},
        {"sklearn_adam",
         {"m", "v"},
         with_options(1e-3, {kAdamBeta1, kAdamBeta2, {"eps", 1e-8, Limit::kNotNegative}}),
         false,
         sklearn_adam},
        {"amsgrad",
         {"m", "v", "vmax"},
         adam_options(1e-3, 0, 0, 1, {{"max_corrected", 0, Limit::kFlag}}),
         true,
         amsgrad},
        {"adamax",
         {"m", "u"},
         with_options(
             2e-3, {kAdamBeta1, kAdamBeta2, {"eps", 1e-8, Limit::kNotNegative}, {"eps_inside_max", 1, Limit::kFlag}}),
         true,
         adamax},
        {"radam", {"m", "v"}, adam_options(1e-3, 0, 0, 0, {{"threshold", 5, Limit::kNotNegative}}), true, radam},
        {"nadam",
         {"m", "v"},
         adam_options(2e-3, 0, 0, 1, {{"momentum_decay", 4e-3, Limit::kNotNegative}}),
         true,
         nadam,
         {{"mu_product", 1}}},
    };
}

}  // namespace fusedstep
