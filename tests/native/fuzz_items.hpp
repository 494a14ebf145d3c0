// Items of the C interface that a fuzzer makes up, with their settings, and what must be refused of them.
#pragma once

#include <initializer_list>

#include "c_api.hpp"
#include "fuzz_call.hpp"

namespace {

using fusedstep::c_api;

constexpr std::size_t kItemSizes[] = {8, 4, 8, 2, 2};  // by storage type; 0 is none

fusedstep_rule any_rule(Call& call) {
    fusedstep_rule rule;
    const auto index = call.data.ConsumeIntegralInRange(0, c_api.rule_count() - 1);
    check(c_api.describe_rule(index, &rule, sizeof rule) == FUSEDSTEP_OK, "a rule that can't be described");
    return rule;
}

fusedstep_hyperparameter hyperparameter(const fusedstep_rule& rule, int index) {
    fusedstep_hyperparameter result;
    check(c_api.describe_hyperparameter(rule.name, index, &result, sizeof result) == FUSEDSTEP_OK,
          "a hyper-parameter that can't be described");
    return result;
}

// Some of the rule's own hyper-parameters, with what may be wrong in such a list. `seen`: the library looks at it.
// Returns whether the average is on.
bool set_options(Call& call, const fusedstep_rule& rule, bool seen, fusedstep_settings& settings) {
    std::vector<fusedstep_option> options;
    bool bad = false, averages = false;
    for (int i = 0; i < rule.hyperparameter_count; ++i) {
        const fusedstep_hyperparameter known = hyperparameter(rule, i);
        if (!known.is_option ? !call.rarely(64) : call.data.ConsumeBool()) continue;
        bad |= known.is_option == 0;
        const double value = call.number(known.minimum, known.maximum, known.is_flag != 0);
        if (seen) call.limit(value, known.minimum, known.maximum, known.is_flag != 0);
        options.push_back({call.string(known.name), value});
        averages |= seen && std::strcmp(known.name, "average") == 0 && value != -1;
    }
    if (call.rarely(64))
        options.push_back({call.string("no " + call.data.ConsumeRandomLengthString(30)), 0}), bad = true;
    if (call.rarely(64)) options.push_back({nullptr, 0}), bad = true;
    if (call.rarely(32) && !options.empty()) options.push_back(options[0]), bad = true;
    const std::size_t bytes = options.size() * sizeof(fusedstep_option);
    if (bytes > 0)
        settings.options = static_cast<fusedstep_option*>(std::memcpy(call.allocate(bytes), options.data(), bytes));
    settings.option_count = static_cast<std::int64_t>(options.size());
    if (call.rarely(64)) settings.options = nullptr, bad |= !options.empty();
    if (call.rarely(64)) {
        settings.option_count = call.rarely(2) ? call.data.ConsumeIntegralInRange<std::int64_t>(33, INT64_MAX)
                                               : call.data.ConsumeIntegralInRange<std::int64_t>(INT64_MIN, -1);
        bad = true;
    }
    call.refuse_if(seen && bad);
    return averages;
}

struct Settings {
    const fusedstep_settings* given;
    bool averages;
};

std::int64_t any_flag(Call& call, bool seen = true) {
    std::int64_t flag = call.data.ConsumeIntegralInRange(0, 1);
    if (call.rarely(64)) flag = call.data.ConsumeIntegral<std::int32_t>();
    call.refuse_if(seen && flag != 0 && flag != 1);
    return flag;
}

Settings any_settings(Call& call, const fusedstep_rule& rule) {
    const std::size_t size = call.struct_size(sizeof(fusedstep_settings), offsetof(fusedstep_settings, lr));
    const auto seen = [&](std::size_t offset) { return offset < size; };
    fusedstep_settings settings{};
    settings.rule = call.string(rule.name);
    if (call.rarely(64))
        settings.rule = call.string("no " + call.data.ConsumeRandomLengthString(30)), call.refuse_if(true);
    if (call.rarely(64)) settings.rule = nullptr, call.refuse_if(true);
    settings.t =
        call.rarely(16) ? call.data.ConsumeIntegral<std::int64_t>() : call.data.ConsumeIntegralInRange(1, 1000);
    call.refuse_if(settings.t < 1);
    const std::size_t offsets[] = {offsetof(fusedstep_settings, lr), offsetof(fusedstep_settings, weight_decay),
                                   offsetof(fusedstep_settings, decoupled), offsetof(fusedstep_settings, scale)};
    double* const fields[] = {&settings.lr, &settings.weight_decay, &settings.decoupled, &settings.scale};
    for (int i = 0; i < 4; ++i) {
        const fusedstep_hyperparameter known = hyperparameter(rule, i);
        *fields[i] = call.number(known.minimum, known.maximum, known.is_flag != 0);
        if (seen(offsets[i])) call.limit(*fields[i], known.minimum, known.maximum, known.is_flag != 0);
    }
    const bool averages = set_options(call, rule, seen(offsetof(fusedstep_settings, option_count)), settings);
    settings.stochastic = any_flag(call, seen(offsetof(fusedstep_settings, stochastic)));
    settings.seed = call.data.ConsumeIntegral<std::uint64_t>();
    return {call.sized_struct(settings, size), averages};
}

// A storage type; `right`: those that may be taken.
std::int32_t any_type(Call& call, std::initializer_list<std::int32_t> right, bool seen = true) {
    std::int32_t type = right.begin()[call.data.ConsumeIntegralInRange<std::size_t>(0, right.size() - 1)];
    if (call.rarely(32)) type = call.data.ConsumeIntegralInRange(0, 5);
    if (call.rarely(64)) type = call.data.ConsumeIntegral<std::int32_t>();
    call.refuse_if(seen && std::find(right.begin(), right.end(), type) == right.end());
    return type;
}

constexpr std::initializer_list<std::int32_t> kAnyType = {FUSEDSTEP_FLOAT32, FUSEDSTEP_FLOAT64, FUSEDSTEP_FLOAT16,
                                                          FUSEDSTEP_BFLOAT16};

std::size_t item_size_of(std::int32_t type) {
    return kItemSizes[type >= 1 && type <= 4 ? type : 0];
}

// An item, and what it writes: of a matrix of which some rows are updated, up to the last of these.
struct Made {
    fusedstep_item item{};
    std::vector<Memory> written;
    Memory zeroed{};
    std::int64_t elements = 0, row_size = 0, rows = 0;  // of the gradient; rows: up to the last one
};

// The size of an item's arrays, and which rows have a gradient. Fields that are not seen stay zero.
template <class Seen> void set_sizes(Call& call, const Seen& seen, Made& made) {
    fusedstep_item& item = made.item;
    if (!seen(offsetof(fusedstep_item, row_size)) || !call.rarely(3)) {
        made.elements = item.n = call.size();
        return;
    }
    const std::int64_t all = call.data.ConsumeIntegralInRange(1, 6);
    made.row_size = item.row_size = call.data.ConsumeIntegralInRange(1, 6);
    item.n = all * item.row_size;
    std::vector<std::int64_t> rows;
    for (std::int64_t row = 0; row < all; ++row)
        if (call.data.ConsumeBool()) rows.push_back(row);
    if (!seen(offsetof(fusedstep_item, row_count))) rows.clear();
    made.rows = rows.empty() ? 0 : rows.back() + 1;
    if (call.rarely(16) && !rows.empty()) {
        constexpr std::int64_t kBad[] = {-1, INT64_MIN, INT64_MAX, 6};
        const std::size_t place = call.data.ConsumeIntegralInRange<std::size_t>(0, rows.size() - 1);
        rows[place] = rows.size() > 1 && call.data.ConsumeBool() ? rows[place == 0 ? 1 : place - 1]
                                                                 : kBad[call.data.ConsumeIntegralInRange(0, 3)];
        call.refuse_if(true);
    }
    const auto count = static_cast<std::int64_t>(rows.size());
    made.elements = count * item.row_size;
    if (seen(offsetof(fusedstep_item, row_count))) item.row_count = count;
    if (seen(offsetof(fusedstep_item, rows))) {
        const bool odd = call.rarely(64), null = call.rarely(64);
        const std::size_t bytes = rows.size() * sizeof(std::int64_t), shift = odd ? 4 : 0;
        unsigned char* const at = call.allocate(bytes + shift) + shift;
        if (bytes > 0) std::memcpy(at, rows.data(), bytes);
        if (!null) item.rows = reinterpret_cast<std::int64_t*>(at);
        call.refuse_if(count > 0 && (odd || null));
        call.arrays.push_back({at, bytes, false});
    }
    if (call.rarely(64)) item.row_size += call.data.ConsumeBool() ? item.n : INT64_MIN, call.refuse_if(true);
    if (call.rarely(64) && seen(offsetof(fusedstep_item, row_count))) {
        item.row_count = call.data.ConsumeBool() ? all + 1 : INT64_MIN;
        call.refuse_if(true);
    }
}

// rule, averages: what its settings ask for. null_gradient: a gradient that must be refused may be a null pointer.
template <class Seen>
Made any_item(Call& call, const fusedstep_rule& rule, bool averages, bool null_gradient, const Seen& seen) {
    const int states = rule.state_count;
    const auto has_shape = [&](int state, const char* shape) {
        return rule.shapes[state] && std::strcmp(rule.shapes[state], shape) == 0;
    };
    Made made;
    set_sizes(call, seen, made);
    fusedstep_item& item = made.item;
    item.parameter_type = any_type(call, kAnyType);
    item.gradient_type = any_type(call, kAnyType);
    const bool doubles = item.parameter_type == FUSEDSTEP_FLOAT64;
    const std::int32_t arithmetic = doubles ? FUSEDSTEP_FLOAT64 : FUSEDSTEP_FLOAT32;
    item.state_type = any_type(call, {arithmetic, doubles ? arithmetic : FUSEDSTEP_BFLOAT16}, states > 0);
    const bool copies = seen(offsetof(fusedstep_item, copy)) && call.data.ConsumeBool();
    item.copy_type = any_type(call, kAnyType, copies);
    const auto written = [&](std::int32_t type, bool may_be_null = true) {
        const std::size_t size = item_size_of(type);
        void* const at = call.array(item.n, size, true, may_be_null);
        if (at) made.written.push_back(call.arrays.back());
        return at;
    };
    item.parameter = written(item.parameter_type);
    // The matrices have no size, so the parameter is one row.
    for (int i = 0; i < states; ++i) item.state[i] = has_shape(i, "rows") ? nullptr : written(item.state_type);
    call.refuse_if(has_shape(0, "rows") && item.row_size != 0);
    if (copies) item.copy = written(item.copy_type, false);
    if (averages && seen(offsetof(fusedstep_item, average)))
        item.average = written(arithmetic);
    else
        call.refuse_if(averages && item.n > 0);
    for (std::size_t i = 0; i < made.written.size() && made.elements > 0; ++i)
        for (std::size_t j = 0; j < i; ++j) call.refuse_if(made.written[i].overlaps(made.written[j]));
    const bool zeroes = seen(offsetof(fusedstep_item, zero_gradient)) && call.rarely(3);
    if (zeroes) item.zero_gradient = any_flag(call);
    const bool zeroed = item.zero_gradient == 1;
    item.gradient = call.array(made.elements, item_size_of(item.gradient_type), zeroed, null_gradient);
    if (!item.gradient || !zeroed) return made;
    call.arrays.back().zeroed = true;
    made.zeroed = call.arrays.back();
    for (const Memory& each : made.written) call.refuse_if(made.elements > 0 && each.overlaps(made.zeroed));
    return made;
}

// Gradients that become zero in what other items write.
void refuse_zeroed(Call& call, const std::vector<Made>& all) {
    for (std::size_t i = 0; i < all.size(); ++i)
        for (const Made& other : all)
            for (Memory each : other.written) {
                if (other.row_size != 0)
                    each.bytes = each.bytes / static_cast<std::size_t>(other.item.n) *
                                 static_cast<std::size_t>(other.rows * other.row_size);
                if (&other != &all[i] && other.elements > 0 && each.overlaps(all[i].zeroed))
                    call.refuse_last(static_cast<std::int64_t>(i));
            }
}

// A place for the norm of all gradients, or null.
fusedstep_gradients* any_gradients(Call& call) {
    if (call.data.ConsumeBool()) return nullptr;
    fusedstep_gradients value{};
    value.clips = static_cast<std::int32_t>(any_flag(call));
    value.skip_nonfinite = static_cast<std::int32_t>(any_flag(call));
    value.norm_is_known = static_cast<std::int32_t>(any_flag(call));
    value.skipped = call.data.ConsumeIntegral<std::int32_t>();
    value.clip_norm = call.number(0, std::numeric_limits<double>::max());
    value.gradient_norm = call.number(0, HUGE_VAL);
    call.refuse_if(value.clips == 1 &&
                   !(value.clip_norm >= 0 && value.clip_norm <= std::numeric_limits<double>::max()));
    call.refuse_if(value.norm_is_known == 1 && value.gradient_norm < 0);
    const std::size_t size = call.struct_size(sizeof value, sizeof value);
    value.size = size;
    const std::size_t there = size < sizeof value || size > kLargestStruct ? sizeof value : size;
    unsigned char* const to = call.allocate(there);
    call.place(value, there, to);
    call.arrays.push_back({to, there, true, false, true});
    return reinterpret_cast<fusedstep_gradients*>(to);
}

// What the functions that take items have in common: their number, their size, and where they are.
struct ItemList {
    explicit ItemList(Call& call) : count(static_cast<std::size_t>(call.data.ConsumeIntegralInRange(0, 5))) {
        announced = static_cast<std::int64_t>(count);
        if (call.rarely(64)) announced = call.data.ConsumeIntegralInRange<std::int64_t>(INT64_MIN, -1);
        if (call.rarely(64))
            announced = call.data.ConsumeIntegralInRange<std::int64_t>(INT64_MAX / 1024 + 1, INT64_MAX);
        call.refuse_if(announced != static_cast<std::int64_t>(count));
        item_size = call.struct_size(sizeof(fusedstep_item), offsetof(fusedstep_item, copy));
        const bool none = call.rarely(64) && count > 0;
        call.refuse_if(none);
        there = std::min(item_size, kLargestStruct);
        items = call.allocate(count * there);
        given = none ? nullptr : reinterpret_cast<fusedstep_item*>(items);
    }

    void place(Call& call, const fusedstep_item& item, std::size_t i) { call.place(item, there, items + i * there); }

    bool seen(std::size_t offset) const { return offset < item_size; }

    std::size_t count, item_size, there;
    std::int64_t announced;
    unsigned char* items;
    const fusedstep_item* given;
};

}  // namespace
