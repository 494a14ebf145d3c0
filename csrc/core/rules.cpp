#include "rules.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <limits>
#include <stdexcept>

#include "dispatch.hpp"
#include "float_mode.hpp"

namespace fusedstep {
namespace {

template <std::size_t n> std::array<double, n> own(const Program& program) {
    std::array<double, n> values;
    std::copy_n(program.values + kFirstOwn, n, values.begin());
    return values;
}

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

void adagrad(Program& p) {
    const auto [eps, inside] = own<2>(p);
    p.call("adagrad", {kParameter, kGradient, kState},
           {p.values[kLearningRate], inside != 0 ? eps : 0, inside != 0 ? 0 : eps});
}

void rmsprop(Program& p) {
    const auto [decay_rate, eps, inside] = own<3>(p);
    p.call("rmsprop", {kParameter, kGradient, kState},
           {p.values[kLearningRate], decay_rate, 1 - decay_rate, inside != 0 ? eps : 0, inside != 0 ? 0 : eps});
}

void adam(Program& p) {
    const auto [beta1, beta2, eps, inside, corrected] = own<5>(p);
    const double t = static_cast<double>(p.t);
    const double correction = 1 - std::pow(beta2, t), root = std::sqrt(correction);
    const double step = p.values[kLearningRate] * root / (1 - std::pow(beta1, t));
    const double eps_inside = corrected != 0 ? eps * correction : eps, eps_outside = corrected != 0 ? eps * root : eps;
    p.call("adam", {kParameter, kGradient, kState, kState + 1},
           {step, 1 - beta1, 1 - beta2, inside != 0 ? eps_inside : 0, inside != 0 ? 0 : eps_outside});
}

std::vector<Hyperparameter> with_options(double lr, std::vector<Hyperparameter> own, double weight_decay = 0,
                                         double decoupled = 0) {
    std::vector<Hyperparameter> all = {
        {"lr", lr, Limit::kNotNegative},        {"weight_decay", weight_decay, Limit::kNotNegative},
        {"decoupled", decoupled, Limit::kFlag}, {"scale", 1, Limit::kNotNegative},
        {"maximize", 0, Limit::kFlag},          {"clip_value", kOff, Limit::kNotNegativeOrOff},
        {"average", kOff, Limit::kUpToOneOrOff}};
    all.insert(all.end(), own.begin(), own.end());
    return all;
}

const Hyperparameter kMomentum = {"momentum", 0.9, Limit::kUpToOne};
const Hyperparameter kEpsInsideRoot = {"eps_inside_root", 0, Limit::kFlag};

std::vector<Hyperparameter> adam_options(double weight_decay, double decoupled) {
    return with_options(1e-3,
                        {{"beta1", 0.9, Limit::kBelowOne},
                         {"beta2", 0.999, Limit::kBelowOne},
                         {"eps", 1e-8, Limit::kNotNegative},
                         kEpsInsideRoot,
                         {"eps_corrected", 1, Limit::kFlag}},
                        weight_decay, decoupled);
}

}  // namespace

const std::vector<Rule>& rules() {
    // To add a rule: its row, and the function that adds its stages to a program.
    static const std::vector<Rule> all = {
        {"sgd", {}, with_options(0.01, {}), false, sgd},
        {"momentum", {"v"}, with_options(0.01, {kMomentum}), false, momentum},
        {"momentum_plain_velocity", {"v"}, with_options(0.01, {kMomentum}), false, momentum_plain_velocity},
        {"nesterov", {"v"}, with_options(0.01, {kMomentum}), false, nesterov},
        {"nesterov_new_velocity", {"v"}, with_options(0.01, {kMomentum}), false, nesterov_new_velocity},
        {"adagrad", {"h"}, with_options(0.01, {{"eps", 1e-7, Limit::kNotNegative}, kEpsInsideRoot}), false, adagrad},
        {"rmsprop",
         {"h"},
         with_options(0.01,
                      {{"decay_rate", 0.99, Limit::kBelowOne}, {"eps", 1e-7, Limit::kNotNegative}, kEpsInsideRoot}),
         false,
         rmsprop},
        {"adam", {"m", "v"}, adam_options(0, 0), true, adam},
        {"adamw", {"m", "v"}, adam_options(0.01, 1), true, adam},
    };
    return all;
}

const Rule& accumulation() {
    static const Rule rule = {"accumulation", {}, with_options(0, {}), false, [](Program& p) {
                                  p.pass[0] = {};  // the scale is part of the stage
                                  p.call("accumulate", {kParameter, kGradient}, {p.values[kScale]});
                              }};
    return rule;
}

const Rule& exchange() {
    static const Rule rule = {"exchange", {"other"}, with_options(0, {}), false, [](Program& p) {
                                  p.call("exchange", {kParameter, kState}, {});
                              }};
    return rule;
}

const Rule* find_rule(const char* name) {
    for (const Rule& rule : rules())
        if (std::strcmp(rule.name, name) == 0) return &rule;
    return nullptr;
}

int Rule::index_of(const std::string& hyperparameter) const {
    for (std::size_t i = 0; i < hyperparameters.size(); ++i)
        if (hyperparameter == hyperparameters[i].name) return static_cast<int>(i);
    return -1;
}

bool is_within(Limit limit, double value) {
    if (value == kOff) return limit == Limit::kNotNegativeOrOff || limit == Limit::kUpToOneOrOff;
    if (!(value >= 0 && value <= std::numeric_limits<double>::max())) return false;
    switch (limit) {
        case Limit::kNotNegative:
        case Limit::kNotNegativeOrOff:
            return true;
        case Limit::kUpToOne:
        case Limit::kUpToOneOrOff:
            return value <= 1;
        case Limit::kBelowOne:
            return value < 1;
        case Limit::kFlag:
            return value == 0 || value == 1;
    }
    return false;
}

void Program::call(const char* stage, std::initializer_list<int> operands, std::initializer_list<double> coefficients) {
    const KernelTable& kernels = table();
    const Stage* const last = kernels.stages + kernels.stage_count;
    const Stage* const found =
        std::find_if(kernels.stages, last, [=](const Stage& each) { return std::strcmp(each.name, stage) == 0; });
    Pass& now = pass[passes - 1];
    if (found == last || now.end == kMaxCalls || operands.size() != static_cast<std::size_t>(found->operands) ||
        coefficients.size() != static_cast<std::size_t>(found->coefficients))
        throw std::logic_error(std::string("a rule calls the stage '") + stage + "' otherwise than stages.hpp has it");
    const Call* const before = now.end > now.first ? &calls[now.end - 1] : nullptr;
    const StageFunction* run = found->run;
    double* to = nullptr;
    if (before && now.end > unclipped && found->after_add_decay[0] && *operands.begin() == kParameter &&
        operands.begin()[1] == kGradient) {
        if (std::strcmp(before->stage->name, "scale") == 0) run = found->after_scale;
        if (std::strcmp(before->stage->name, "add_decay") == 0) run = found->after_add_decay;
        if (std::strcmp(before->stage->name, "shrink") == 0) run = found->after_shrink;
    }
    if (run != found->run) --now.end;
    Call& call = calls[now.end++];
    to = call.coefficients + (run == found->run ? 0 : 1);
    call.stage = found;
    call.run = run;
    call.operand_count = found->operands;
    call.written = 0;
    call.clips = run != found->run && call.clips;
    std::copy(operands.begin(), operands.end(), call.operands);
    call.coefficient_count =
        static_cast<int>(std::copy(coefficients.begin(), coefficients.end(), to) - call.coefficients);
    for (int i = 0; i < found->operands; ++i)
        if ((found->written >> i & 1) != 0) call.written |= 1u << call.operands[i];
    find_operands(now);
}

void Program::end_pass(std::initializer_list<int> squares) {
    Pass& finished = pass[passes - 1];
    std::copy(squares.begin(), squares.end(), finished.squares);
    finished.square_count = static_cast<int>(squares.size());
    for (const int operand : squares) finished.used |= 1u << operand;
    Pass& next = pass[passes++];
    next = {};
    next.first = next.end = finished.end;
    // The gradient is not stored: what the pass has made of it must be made again. So is decay of the parameter, as a
    // narrow one would be rounded twice.
    constexpr unsigned parameter = 1u << kParameter;
    const auto is_decay = [=](const Call& call) { return call.written == parameter && call.operand_count == 1; };
    const bool repeats = std::all_of(calls + finished.first, calls + finished.end, [&](const Call& call) {
        return (call.written & parameter) == 0 || is_decay(call);
    });
    if (repeats) finished.unstored |= finished.written & parameter;
    for (int i = finished.first; i < finished.end; ++i)
        if (calls[i].written == 1u << kGradient || (repeats && is_decay(calls[i]))) calls[next.end++] = calls[i];
    find_operands(next);
}

bool Program::add_average(int mean, double coefficient) {
    Pass& now = pass[passes - 1];
    Call& call = calls[now.end - 1];
    const bool is_scaled = call.run == call.stage->after_scale;
    if (between || !call.stage->with_average[0] || !(is_scaled || call.run == call.stage->run)) return false;
    if (!is_scaled) {
        std::copy_backward(call.coefficients, call.coefficients + call.coefficient_count,
                           call.coefficients + call.coefficient_count + 1);
        call.coefficients[0] = 1;
        ++call.coefficient_count;
    }
    call.coefficients[call.coefficient_count++] = coefficient;
    std::copy_backward(call.operands, call.operands + call.operand_count, call.operands + call.operand_count + 1);
    call.operands[0] = static_cast<std::uint8_t>(mean);
    ++call.operand_count;
    call.run = call.stage->with_average;
    call.written |= 1u << mean;
    find_operands(now);
    return true;
}

void Program::find_operands(Pass& now) const {
    now.used = now.written = 0;
    for (const Call* each = calls + now.first; each != calls + now.end; ++each) {
        now.written |= each->written;
        for (int i = 0; i < each->operand_count; ++i) now.used |= 1u << each->operands[i];
    }
    now.unstored = now.written & 1u << kGradient;
}

bool Program::has_finite_coefficients() const {
    return std::all_of(calls, calls + pass[passes - 1].end, [](const Call& call) {
        return std::all_of(call.coefficients, call.coefficients + call.coefficient_count,
                           [](double c) { return std::isfinite(c); });
    });
}

bool Program::uses_gradient() const {
    return std::any_of(pass, pass + passes, [](const Pass& each) { return (each.used >> kGradient & 1) != 0; });
}

void Program::set_clip(double factor) {
    for (Call* each = calls; each != calls + pass[passes - 1].end; ++each)
        if (each->clips) each->coefficients[0] = factor;
}

double clip_factor(double clip_norm, double norm) {
    const FloatMode mode;
    const double factor = clip_norm / (norm + 1e-6);
    return factor >= 1 ? 1 : factor;
}

void build(const Rule& rule, int arithmetic, const double* values, std::int64_t t, Clipping clipping,
           Program& program) {
    const FloatMode mode;
    const double average = values[kAverage];
    program.arithmetic = arithmetic;
    program.states = static_cast<int>(rule.states.size()) + (average == kOff ? 0 : 1);
    program.passes = 1;
    program.unclipped = 0;
    program.pass[0] = {};
    program.between = nullptr;
    program.t = t;
    std::copy_n(values, rule.hyperparameters.size(), program.values);
    const double decay = values[kWeightDecay];
    const double scale = values[kMaximize] != 0 ? -values[kScale] : values[kScale];
    if (scale != 1) program.call("scale", {kGradient}, {scale});
    program.unclipped = clipping.measures ? program.pass[0].end : 0;
    if (clipping.clips) {
        program.call("scale", {kGradient}, {1});
        program.calls[program.pass[0].end - 1].clips = true;
    }
    if (values[kClipValue] != kOff) program.call("clip", {kGradient}, {values[kClipValue]});
    if (decay != 0 && values[kDecoupled] == 0) program.call("add_decay", {kGradient, kParameter}, {decay});
    if (decay != 0 && values[kDecoupled] != 0)
        program.call("shrink", {kParameter}, {1 - values[kLearningRate] * decay});
    rule.build(program);
    if (average == kOff) return;
    const int mean = kState + program.states - 1;
    if (average == 0)
        program.call("assign", {mean, kParameter}, {});
    else if (!program.add_average(mean, 1 - average))
        program.call("average", {mean, kParameter}, {1 - average});
}

}  // namespace fusedstep
