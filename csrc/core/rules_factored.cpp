// Adafactor, whose second moments are those of rows and columns.
#include <limits>

#include "rule_families.hpp"

namespace fusedstep {
namespace {

enum {
    kBeta2Decay = kFirstOwn,
    kEps1,
    kEps2,
    kClipThreshold,
    kRelativeStep,
    kScaleParameter,
    kEps1AsFloor,
    kDecayFirst,
    kBeta1
};

// The step from the root mean squares of the parameter and of the update.
double step_of(const Program& p, double parameter, double update) {
    const double lr = p.values[kLearningRate], most = 1 / std::sqrt(static_cast<double>(p.t));
    double step = p.values[kRelativeStep] != 0 && most < lr ? most : lr;
    if (p.values[kScaleParameter] != 0) step *= parameter > p.values[kEps2] ? parameter : p.values[kEps2];
    const double excess = p.values[kClipThreshold] == kOff ? 1 : update / p.values[kClipThreshold];
    return excess > 1 ? step / excess : step;
}

template <bool has_momentum> void adafactor(Program& p) {
    static constexpr const char* kStage = has_momentum ? "adafactor_momentum" : "adafactor";
    const double lr = p.values[kLearningRate], given = p.values[kEps1];
    const double epsilon = p.arithmetic == kFloat64 ? std::numeric_limits<double>::epsilon()
                                                    : double{std::numeric_limits<float>::epsilon()};
    const double eps1 = given == kOff ? epsilon : given, floor = p.values[kEps1AsFloor] != 0 ? eps1 : 0;
    p.factored = {true, std::pow(static_cast<double>(p.t), -p.values[kBeta2Decay]), floor != 0 ? 0 : eps1, floor};
    double keep = 1 - lr * p.own_decay;
    if (p.own_decay != 0 && p.values[kDecayFirst] != 0) {
        p.call("shrink", {kParameter}, {keep});
        keep = 1;
    }
    p.end_pass({kParameter, kUpdate});
    if constexpr (has_momentum)
        p.call(kStage, {kParameter, kGradient, kColumnRoots, kState + 2}, {1, floor, keep, 0, 1 - p.values[kBeta1]});
    else
        p.call(kStage, {kParameter, kGradient, kColumnRoots}, {1, floor, keep, 0});
    p.between = [](Program& program, int, const double* squares) {
        const double size = static_cast<double>(program.size);
        program.set(kStage, 3, step_of(program, std::sqrt(squares[0] / size), std::sqrt(squares[1] / size)));
    };
}

template <bool has_momentum> Rule rule(const char* name) {
    std::vector<State> states = {{"row", State::kRows}, {"column", State::kColumns}};
    std::vector<Hyperparameter> own = {
        {"beta2_decay", 0.8, Limit::kNotNegative}, {"eps1", 1e-30, Limit::kNotNegativeOrOff},
        {"eps2", 1e-3, Limit::kNotNegative},       {"clip_threshold", 1, Limit::kNotNegativeOrOff},
        {"relative_step", 1, Limit::kFlag},        {"scale_parameter", 1, Limit::kFlag},
        {"eps1_as_floor", 0, Limit::kFlag},        {"decay_first", 0, Limit::kFlag}};
    if (has_momentum) {
        states.emplace_back("m");
        own.push_back({"beta1", 0.9, Limit::kBelowOne});
    }
    return {name, states, with_options(0.01, own, 0, 1), true, adafactor<has_momentum>, {}, true};
}

}  // namespace

std::vector<Rule> factored_rules() {
    return {rule<false>("adafactor"), rule<true>("adafactor_momentum")};
}

}  // namespace fusedstep
