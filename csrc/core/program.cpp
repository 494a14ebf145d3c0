// The program of a step: its stages, and the order in which options put them.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <stdexcept>
#include <string>

#include "dispatch.hpp"
#include "float_mode.hpp"
#include "rules.hpp"

namespace fusedstep {

void Program::call(const char* stage, std::initializer_list<int> operands, std::initializer_list<double> coefficients) {
    const Stage* const found = find_stage(stage);
    Pass& now = pass[passes - 1];
    if (!found || now.end == kMaxCalls || operands.size() != static_cast<std::size_t>(found->operands) ||
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
    call.takes_roots = false;
    std::copy(operands.begin(), operands.end(), call.operands);
    call.coefficient_count =
        static_cast<int>(std::copy(coefficients.begin(), coefficients.end(), to) - call.coefficients);
    for (int i = 0; i < found->operands; ++i) {
        if ((found->written >> i & 1) != 0) call.written |= 1u << call.operands[i];
        call.takes_roots = call.takes_roots || (factored.is_set && call.operands[i] == kColumnRoots);
    }
    find_operands(now);
}

static bool is_decay(const Call& call) {
    return call.written == 1u << kParameter && call.operand_count == 1;
}

void Program::end_pass(std::initializer_list<int> squares) {
    Pass& finished = pass[passes - 1];
    std::copy(squares.begin(), squares.end(), finished.squares);
    finished.square_count = static_cast<int>(squares.size());
    for (const int operand : squares) finished.used |= 1u << operand;
    // The gradient is not stored: what the pass has made of it must be made again. So is decay of the parameter, as a
    // narrow one would be rounded twice, and what is kept of the parameter.
    constexpr unsigned parameter = 1u << kParameter;
    const bool repeats = std::all_of(calls + finished.first, calls + finished.end, [](const Call& call) {
        return (call.written & parameter) == 0 || is_decay(call);
    });
    if (repeats) finished.unstored |= finished.written & parameter;
    begin_next_pass(repeats);
}

void Program::end_pass_for_caller(int stored) {
    waits_ = true;
    pass[0].unstored |= pass[0].written & ~(1u << stored);
    begin_next_pass(false);
}

void Program::begin_next_pass(bool with_decay) {
    const Pass& finished = pass[passes - 1];
    Pass& next = pass[passes++];
    next = {};
    next.first = next.end = finished.end;
    for (int i = finished.first; i < finished.end; ++i)
        if (calls[i].written == 1u << kGradient || calls[i].written == 1u << kBefore ||
            (with_decay && is_decay(calls[i])))
            calls[next.end++] = calls[i];
    find_operands(next);
}

void Program::begin() {
    passes = 1;
    unclipped = 0;
    pass[0] = {};
    between = nullptr;
    factored = {};
    waits_ = false;
    own_decay = 0;
}

void Program::set(const char* stage, int coefficient, double value) {
    Call* call = calls + pass[passes - 1].end - 1;
    while (std::strcmp(call->stage->name, stage) != 0) --call;
    call->coefficients[coefficient + call->first_own()] = value;
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

void build(const Rule& rule, int arithmetic, const double* values, std::int64_t t, Clipping clipping, Program& program,
           const double* scalars, bool is_new) {
    const FloatMode mode;
    const double average = values[kAverage];
    program.arithmetic = arithmetic;
    program.states = static_cast<int>(rule.states.size()) + (average == kOff ? 0 : 1);
    program.begin();
    program.t = t;
    program.first = is_new || t == 1;
    for (std::size_t i = 0; i < rule.scalars.size(); ++i)
        program.scalars[i] = program.old_scalars[i] = scalars ? scalars[i] : rule.scalars[i].start;
    std::copy_n(values, rule.hyperparameters.size(), program.values);
    const bool cautious = values[kCautiousDecay] != 0, after = cautious || values[kDecayAfter] != 0;
    const bool is_corrected = values[kMaxLearningRate] != kOff;
    const bool decouples = values[kDecoupled] != 0 || after || is_corrected;
    double decay = values[kWeightDecay];
    const double lr = values[kLearningRate];
    if (is_corrected && decay != 0) decay = decay * (lr / values[kMaxLearningRate]);
    const double scale = values[kMaximize] != 0 ? -values[kScale] : values[kScale];
    if (scale != 1) program.call("scale", {kGradient}, {scale});
    program.unclipped = clipping.measures ? program.pass[0].end : 0;
    if (clipping.clips) {
        program.call("scale", {kGradient}, {1});
        program.calls[program.pass[0].end - 1].clips = true;
    }
    if (values[kClipValue] != kOff) program.call("clip", {kGradient}, {values[kClipValue]});
    if (decay != 0 && !decouples) program.call("add_decay", {kGradient, kParameter}, {decay});
    if (decay != 0 && cautious) program.call("assign", {kBefore, kParameter}, {});
    if (decay != 0 && decouples && !after) {
        if (rule.decays)
            program.own_decay = decay;
        else
            program.call("shrink", {kParameter}, {1 - lr * decay});
    }
    rule.build(program);
    if (decay != 0 && cautious)
        program.call("decay_cautiously", {kParameter, kBefore}, {lr * decay});
    else if (decay != 0 && after)
        program.call("decay", {kParameter}, {lr * decay});
    if (average == kOff) return;
    const int mean = kState + program.states - 1;
    if (average == 0)
        program.call("assign", {mean, kParameter}, {});
    else if (!program.add_average(mean, 1 - average))
        program.call("average", {mean, kParameter}, {1 - average});
}

}  // namespace fusedstep
