// Gradient descent: plain, with momentum, averaged, and by the signs of the gradient.
#include "rule_families.hpp"

namespace fusedstep {
namespace {

void sgd(Program& p) {
    p.call("sgd", {kParameter, kGradient}, {p.values[kLearningRate]});
}

void heavy_ball(Program& p, const char* stage) {
    const auto [a] = own<1>(p);
    p.call(stage, {kParameter, kGradient, kState}, {p.values[kLearningRate], a});
}

void sgd_momentum(Program& p) {
    const auto [a, dampening, nesterov] = own<3>(p);
    const double lr = p.values[kLearningRate], keep = p.first ? 0 : a, c = p.first ? 1 : 1 - dampening;
    if (nesterov != 0)
        p.call("sgd_nesterov", {kParameter, kGradient, kState}, {lr, keep, c, a});
    else
        p.call("sgd_momentum", {kParameter, kGradient, kState}, {lr, keep, c});
}

void look_ahead(Program& p, const char* stage) {
    const auto [a] = own<1>(p);
    const double lr = p.values[kLearningRate];
    p.call(stage, {kParameter, kGradient, kState}, {lr, a, a * a, (1 + a) * lr});
}

void momentum(Program& p) {
    heavy_ball(p, "momentum");
}

void momentum_plain_velocity(Program& p) {
    heavy_ball(p, "momentum_plain_velocity");
}

void nesterov(Program& p) {
    look_ahead(p, "nesterov");
}

void nesterov_new_velocity(Program& p) {
    look_ahead(p, "nesterov_new_velocity");
}

void sklearn_nesterov(Program& p) {
    heavy_ball(p, "sklearn_nesterov");
}

// The rate is the one that the step before has left. mu is no scalar of the rule, as it follows from t, but PyTorch
// keeps it as one.
void asgd(Program& p) {
    const auto [lambd, alpha, t0] = own<3>(p);
    const double lr = p.values[kLearningRate], t = static_cast<double>(p.t);
    const double eta = p.first ? p.rounded(lr) : p.scalars[0], mu = p.rounded(1 / std::max(1.0, t - 1 - t0));
    p.scalars[0] = p.rounded(lr / std::pow(1 + lambd * lr * t, alpha));
    p.scalars[1] = 1 / std::max(1.0, t - t0);
    p.call("shrink", {kParameter}, {1 - lambd * eta});
    p.call("sgd", {kParameter, kGradient}, {eta});
    if (mu == 1)
        p.call("assign", {kState, kParameter}, {});
    else
        p.call("average", {kState, kParameter}, {mu});
}

void rprop(Program& p) {
    const auto [eta_minus, eta_plus, step_min, step_max] = own<4>(p);
    p.call("rprop", {kParameter, kGradient, kState, kState + 1}, {eta_minus, eta_plus, step_min, step_max});
}

}  // namespace

std::vector<Rule> momentum_rules() {
    return {
        {"sgd", {}, with_options(0.01, {}), false, sgd},
        {"sgd_momentum",
         {"v"},
         with_options(0.01, {kMomentum, {"dampening", 0, Limit::kUpToOne}, {"nesterov", 0, Limit::kFlag}}),
         true,
         sgd_momentum},
        {"momentum", {"v"}, with_options(0.01, {kMomentum}), false, momentum},
        {"momentum_plain_velocity", {"v"}, with_options(0.01, {kMomentum}), false, momentum_plain_velocity},
        {"nesterov", {"v"}, with_options(0.01, {kMomentum}), false, nesterov},
        {"nesterov_new_velocity", {"v"}, with_options(0.01, {kMomentum}), false, nesterov_new_velocity},
        {"sklearn_nesterov", {"v"}, with_options(0.1, {kMomentum}), false, sklearn_nesterov},
        {"asgd",
         {{"mean", "parameter"}},
         with_options(0.01, {{"lambd", 1e-4, Limit::kNotNegative},
                             {"alpha", 0.75, Limit::kNotNegative},
                             {"t0", 1e6, Limit::kNotNegative}}),
         true,
         asgd,
         {{"eta", 0}}},
        {"rprop",
         {"prev", {"step_size", "lr"}},
         with_options(0.01, {{"eta_minus", 0.5, Limit::kBelowOne},
                             {"eta_plus", 1.2, Limit::kNotNegative},
                             {"step_min", 1e-6, Limit::kNotNegative},
                             {"step_max", 50, Limit::kNotNegative}}),
         false,
         rprop},
    };
}

}  // namespace fusedstep
