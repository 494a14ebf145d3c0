// Schedule-Free rules.
#include "rule_families.hpp"

namespace fusedstep {
namespace {

const State kZ = {"z", "parameter"};

// How far a step goes, after warm-up, and the share of z in the average, by lr^power t^r.
struct Pace {
    double lr, share;

    double pull(double beta) const { return lr * (beta * (1 - share) - 1); }
};

Pace begin(Program& p, double warmup_steps, double r, double weight_lr_power) {
    // Not where the state is made: the parameter may share memory with one that is stepped before it.
    if (p.first) p.call("assign", {kState, kParameter}, {});
    const double t = static_cast<double>(p.t), lr = p.values[kLearningRate];
    const double now = t < warmup_steps ? lr * (t / warmup_steps) : lr;
    double &sum = p.scalars[0], &largest = p.scalars[1];
    largest = std::max(now, largest);
    const double weight = std::pow(t, r) * std::pow(largest, weight_lr_power);
    sum += weight;
    return {now, sum == 0 ? 0 : std::isinf(weight) ? 1 : weight / sum};
}

void sgd(Program& p) {
    const auto [momentum, warmup_steps, r, weight_lr_power] = own<4>(p);
    const Pace pace = begin(p, warmup_steps, r, weight_lr_power);
    if (p.own_decay != 0) p.call("add_decay", {kGradient, kParameter}, {p.own_decay});
    p.call("schedule_free_sgd", {kParameter, kGradient, kState}, {pace.share, pace.pull(momentum), pace.lr});
}

void adamw(Program& p) {
    const auto [beta1, beta2, eps, warmup_steps, r, weight_lr_power] = own<6>(p);
    const Pace pace = begin(p, warmup_steps, r, weight_lr_power);
    const double root = std::sqrt(bias_correction(p, beta2));
    p.call("schedule_free_adamw", {kParameter, kGradient, kState, kState + 1},
           {1 - beta2, root, eps * root, p.own_decay, pace.share, pace.pull(beta1), pace.lr});
}

std::vector<Hyperparameter> with_pace(std::vector<Hyperparameter> own) {
    own.insert(own.end(), {{"warmup_steps", 0, Limit::kNotNegative},
                           {"r", 0, Limit::kNotNegative},
                           {"weight_lr_power", 2, Limit::kNotNegative}});
    return own;
}

}  // namespace

std::vector<Rule> schedule_free_rules() {
    const std::vector<Scalar> scalars = {{"weight_sum", 0}, {"lr_max", 0}};
    return {
        {"schedule_free_sgd", {kZ}, with_options(1, with_pace({kMomentum})), true, sgd, scalars, true},
        {"schedule_free_adamw",
         {kZ, "v"},
         with_options(2.5e-3, with_pace({kAdamBeta1, kAdamBeta2, {"eps", 1e-8, Limit::kNotNegative}}), 0, 1),
         true,
         adamw,
         scalars,
         true},
    };
}

}  // namespace fusedstep
