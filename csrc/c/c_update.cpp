// A step of many arrays for the C interface: all items are checked, then all are updated in one region.
#include <algorithm>
#include <cstring>
#include <deque>

#include "c_checks.hpp"
#include "c_functions.hpp"
#include "step.hpp"

namespace fusedstep {
namespace {

// More would be past the address space, in items here or there.
constexpr std::int64_t kMaxItems = INT64_MAX / 1024;

const char* name_of(int operand) {
    constexpr const char* kStateNames[] = {"state[0]", "state[1]", "state[2]", "state[3]", "state[4]", "state[5]", "average"};
    static_assert(std::size(kStateNames) == kMaxStates);
    if (operand == kParameter) return "parameter";
    if (operand == kGradient) return "gradient";
    return operand < kTemporary ? kStateNames[operand - kState] : "copy";
}

// Settings, checked.
struct Resolved {
    const Rule* rule = nullptr;
    std::int64_t t = 0;
    Values values = {};

    bool operator==(const Resolved& other) const {
        return rule == other.rule && t == other.t && std::memcmp(values, other.values, sizeof values) == 0;
    }
};

void set_option(const fusedstep_option& option, Resolved& resolved, unsigned& given) {
    require(option.name != nullptr, FUSEDSTEP_NULL_POINTER, "options");
    const int i = resolved.rule->index_of(option.name);
    require(i > kScale && (given >> i & 1) == 0, FUSEDSTEP_UNKNOWN_HYPERPARAMETER, "options");
    given |= 1u << i;
    resolved.values[i] = option.value;
}

Resolved resolve(const fusedstep_settings* given) {
    constexpr std::size_t kLeast = offsetof(fusedstep_settings, lr);
    fusedstep_settings settings{};
    read_sized_struct(given, kLeast, "settings", settings);
    const std::size_t size = settings.size;
    require(settings.rule != nullptr, FUSEDSTEP_NULL_POINTER, "rule");
    require(defaults(settings.rule, &settings, sizeof settings) == FUSEDSTEP_OK, FUSEDSTEP_UNKNOWN_RULE, "rule");
    read_struct(given, size, kLeast, "settings", settings);

    Resolved resolved;
    resolved.rule = find_rule(settings.rule);
    resolved.t = settings.t;
    require(settings.t >= 1, FUSEDSTEP_OUT_OF_RANGE, "t");
    const std::vector<Hyperparameter>& known = resolved.rule->hyperparameters;
    for (std::size_t i = 0; i < known.size(); ++i) resolved.values[i] = known[i].fallback;
    resolved.values[kLearningRate] = settings.lr;
    resolved.values[kWeightDecay] = settings.weight_decay;
    resolved.values[kDecoupled] = settings.decoupled;
    resolved.values[kScale] = settings.scale;
    require(settings.option_count >= 0 && settings.option_count <= kMaxHyperparameters, FUSEDSTEP_BAD_SIZE,
            "option_count");
    if (settings.option_count > 0) require_pointer(settings.options, "options");
    unsigned options = 0;
    for (std::int64_t i = 0; i < settings.option_count; ++i) set_option(settings.options[i], resolved, options);
    for (std::size_t i = 0; i < known.size(); ++i)
        require(is_within(known[i].limit, resolved.values[i]), FUSEDSTEP_OUT_OF_RANGE, known[i].name);
    return resolved;
}

// The programs of a step. Neighbours that have the same settings share one.
class Programs {
  public:
    const Program& of(const fusedstep_settings* settings, int arithmetic) {
        // A few are remembered by address: groups of parameters usually take turns.
        const auto end = built_.rbegin() + std::min<std::ptrdiff_t>(kRemembered, built_.rend() - built_.rbegin());
        const auto found = std::find_if(built_.rbegin(), end, [=](const Built& each) {
            return each.settings == settings && each.program.arithmetic == arithmetic;
        });
        if (found != end) return found->program;
        const Resolved resolved = resolve(settings);
        if (!built_.empty() && built_.back().resolved == resolved && built_.back().program.arithmetic == arithmetic)
            return built_.back().program;
        built_.push_back({settings, resolved, {}});
        Program& program = built_.back().program;
        build(*resolved.rule, arithmetic, resolved.values, resolved.t, false, program);
        require(program.has_finite_coefficients(), FUSEDSTEP_OUT_OF_RANGE, "settings");
        return program;
    }

  private:
    static constexpr std::ptrdiff_t kRemembered = 8;

    struct Built {
        const fusedstep_settings* settings;
        Resolved resolved;
        Program program;
    };

    std::deque<Built> built_;  // which moves none of them
};

void add(const fusedstep_item& item, Programs& programs, Step& step) {
    require(item.n >= 0, FUSEDSTEP_BAD_SIZE, "n");
    const int storage = storage_of(item.parameter_type, "parameter_type"), arithmetic = arithmetic_of(storage);
    const int gradient = storage_of(item.gradient_type, "gradient_type");
    const Program& program = programs.of(item.settings, arithmetic);
    if (program.states > 0)
        require(storage_of(item.state_type, "state_type") == arithmetic, FUSEDSTEP_UNSUPPORTED_TYPE, "state_type");

    const Extent shape = item.n;
    Extent strides[kTemporary + 1];
    View views[kTemporary + 1];
    const auto view = [&](int operand, const void* array, int stored) {
        checked_span(array, item.n, size_of(stored), true, name_of(operand));
        strides[operand] = size_of(stored);
        views[operand] = {static_cast<char*>(const_cast<void*>(array)), stored, 1, &shape, strides + operand, true};
    };
    view(kParameter, item.parameter, storage);
    view(kGradient, item.gradient, gradient);
    for (int i = 0; i < program.states; ++i) view(kState + i, item.state[i], arithmetic);
    if (item.copy) view(kTemporary, item.copy, storage_of(item.copy_type, "copy_type"));
    try {
        Around around;
        if (item.copy) around.copy = views + kTemporary;
        step.add(program, views, around);
    } catch (const OperandsOverlap& overlap) {
        throw Failure{FUSEDSTEP_OVERLAP, name_of(overlap.second)};
    }
}

}  // namespace

int update(std::int64_t count, const fusedstep_item* items, std::size_t item_size, fusedstep_error* error) noexcept {
    return guarded(error, [&] {
        constexpr std::size_t kLeast = offsetof(fusedstep_item, copy);
        require(count >= 0 && count <= kMaxItems, FUSEDSTEP_BAD_SIZE, "count");
        require_struct_size(item_size, kLeast, "item_size");
        if (count == 0) return;
        require_pointer(items, "items");
        Programs programs;
        Step step;
        step.reserve(static_cast<std::size_t>(count));
        const char* at = reinterpret_cast<const char*>(items);
        for (std::int64_t i = 0; i < count; ++i, at += item_size) {
            try {
                fusedstep_item item{};
                read_struct(at, item_size, kLeast, "item_size", item);
                add(item, programs, step);
            } catch (Failure& failure) {
                failure.item = i;
                throw;
            }
        }
        step.plan();
        step.run();
    });
}

}  // namespace fusedstep
