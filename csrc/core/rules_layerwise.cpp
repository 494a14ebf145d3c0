// Rules whose step is scaled by norms of the array itself.
#include "rule_families.hpp"

namespace fusedstep {
namespace {

void lamb(Program& p) {
    const auto [beta1, beta2, eps, trust_clip, decay_in_update] = own<5>(p);
    const Corrections corrections(p, beta1, beta2);
    const double root = corrections.root, scale = root / corrections.first;
    const double decay = decay_in_update != 0 ? p.own_decay : 0;
    if (p.own_decay != decay) p.call("shrink", {kParameter}, {1 - p.values[kLearningRate] * p.own_decay});
    p.call("lamb_update", {kUpdate, kParameter, kGradient, kState, kState + 1},
           {1 - beta1, 1 - beta2, scale, eps * root, decay, 0});
    p.end_pass({kParameter, kUpdate});
    p.call("lamb", {kParameter, kGradient, kState, kState + 1}, {1 - beta1, 1 - beta2, scale, eps * root, decay, 0});
    p.between = [](Program& program, int, const double* squares) {
        const double w = std::sqrt(squares[0]), u = std::sqrt(squares[1]), ratio = w == 0 || u == 0 ? 1 : w / u;
        const bool clips = program.values[kFirstOwn + 3] != 0 && ratio > 1;
        program.set("lamb", 5, clips ? program.values[kLearningRate] : program.values[kLearningRate] * ratio);
    };
}

void lars(Program& p) {
    const auto [a, trust_coefficient, eps, nesterov, trust_clip] = own<5>(p);
    p.end_pass({kParameter, kGradient});
    p.call(nesterov != 0 ? "lars_nesterov" : "lars", {kParameter, kGradient, kState}, {a, p.own_decay, 0});
    p.between = [](Program& program, int, const double* squares) {
        const auto [a, trust_coefficient, eps, nesterov, trust_clip] = own<5>(program);
        const double lr = program.values[kLearningRate], w = std::sqrt(squares[0]), g = std::sqrt(squares[1]);
        const double ratio = trust_coefficient * w / (g + program.own_decay * w + eps);
        const bool is_plain = w == 0 || g == 0 || (trust_clip != 0 && ratio > lr);
        program.set(nesterov != 0 ? "lars_nesterov" : "lars", 2, is_plain ? lr : trust_clip != 0 ? ratio : lr * ratio);
    };
}

void stable_adamw(Program& p) {
    const auto [beta1, beta2, eps] = own<3>(p);
    const Corrections corrections(p, beta1, beta2);
    const double c1 = (1 - beta1) / corrections.first, c2 = (1 - beta2) / corrections.second;
    p.call("stable_adamw_ratio", {kUpdate, kGradient, kState + 1}, {c2, eps * eps});
    p.end_pass({kUpdate});
    p.call("stable_adamw", {kParameter, kGradient, kState, kState + 1}, {c1, c2, eps, 1, 0});
    p.between = [](Program& program, int, const double* squares) {
        const double lr = program.values[kLearningRate];
        const double rms = std::sqrt(squares[0] / static_cast<double>(program.size));
        const double step = rms > 1 ? lr / rms : lr;
        program.set("stable_adamw", 3, 1 - step * program.own_decay);
        program.set("stable_adamw", 4, step);
    };
}

}  // namespace

std::vector<Rule> layerwise_rules() {
    constexpr Hyperparameter kTrustClip = {"trust_clip", 0, Limit::kFlag};
    return {
        {"lamb",
         {"m", "v"},
         with_options(1e-3,
                      {kAdamBeta1,
                       kAdamBeta2,
                       {"eps", 1e-6, Limit::kNotNegative},
                       kTrustClip,
                       {"decay_in_update", 1, Limit::kFlag}},
                      0, 1),
         true,
         lamb,
         {},
         true},
        {"lars",
         {"v"},
         with_options(0.1,
                      {kMomentum,
                       {"trust_coefficient", 1e-3, Limit::kNotNegative},
                       {"eps", 1e-8, Limit::kNotNegative},
                       {"nesterov", 0, Limit::kFlag},
                       kTrustClip},
                      0, 1),
         false,
         lars,
         {},
         true},
        {"stable_adamw",
         {"m", "v"},
         with_options(1e-3, {kAdamBeta1, {"beta2", 0.99, Limit::kBelowOne}, {"eps", 1e-6, Limit::kNotNegative}}, 0.01,
                      1),
         true,
         stable_adamw,
         {},
         true},
    };
}

}  // namespace fusedstep
