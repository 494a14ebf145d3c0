// Gradient descent, with and without momentum.
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

}  // namespace

std::vector<Rule> momentum_rules() {
    return {
        {"sgd", {}, with_options(0.01, {}), false, sgd},
        {"momentum", {"v"}, with_options(0.01, {kMomentum}), false, momentum},
        {"momentum_plain_velocity", {"v"}, with_options(0.01, {kMomentum}), false, momentum_plain_velocity},
        {"nesterov", {"v"}, with_options(0.01, {kMomentum}), false, nesterov},
        {"nesterov_new_velocity", {"v"}, with_options(0.01, {kMomentum}), false, nesterov_new_velocity},
    };
}

}  // namespace fusedstep
