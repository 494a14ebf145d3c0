// A fuzz target for the C interface: hostile sizes, structs, names, types and numbers, null and misaligned pointers,
// overlapping arrays.
//
// Each input is one call. Its arrays, structs and strings are allocations of exactly their size, so that
// AddressSanitizer sees a step too far, or the arrays are in one block, where they overlap. What the call must be
// refused for, at which item, and which bytes it may write is worked out here.
#include "fuzz_items.hpp"

namespace {

void update(Call& call) {
    ItemList list(call);
    fusedstep_gradients* const gradients = any_gradients(call);
    struct Shared {
        fusedstep_rule rule;
        Settings settings;
    };
    std::vector<Shared> shared;
    std::vector<Made> all;
    for (std::size_t i = 0; i < list.count; ++i) {
        call.item = static_cast<std::int64_t>(i);
        const bool makes = shared.empty() || call.data.ConsumeBool();
        if (makes) {
            const fusedstep_rule rule = any_rule(call);
            shared.push_back({rule, any_settings(call, rule)});
        }
        const std::size_t last = shared.size() - 1;
        const Shared& taken = shared[makes ? last : call.data.ConsumeIntegralInRange<std::size_t>(0, last)];
        all.push_back(any_item(call, taken.rule, taken.settings.averages, true,
                               [&](std::size_t offset) { return list.seen(offset); }));
        all.back().item.settings = taken.settings.given;
        list.place(call, all.back().item, i);
    }
    refuse_zeroed(call, all);
    call.run(false, call.data.ConsumeBool(), [&](fusedstep_error* error) {
        const int code = c_api.update(list.announced, list.given, list.item_size, gradients, error);
        if (code == FUSEDSTEP_OK && gradients) {
            check(gradients->skipped == 0 || (gradients->skipped == 1 && gradients->skip_nonfinite == 1),
                  "skipped what it must not");
            if (gradients->skipped == 1) call.set_skipped();
        }
        return code;
    });
}

double* any_norm(Call& call, bool may_be_null) {
    const bool null = call.rarely(16), odd = call.rarely(64);
    call.refuse_if(null ? !may_be_null : odd);
    unsigned char* const at = call.allocate(sizeof(double) + 4);
    call.arrays.push_back({at, sizeof(double) + 4, true});
    return null ? nullptr : reinterpret_cast<double*>(at + (odd ? 4 : 0));
}

void accumulate(Call& call) {
    ItemList list(call);
    double* const norm = any_norm(call, true);
    const double scale = call.limited(0, std::numeric_limits<double>::max());
    std::vector<Made> all;
    for (std::size_t i = 0; i < list.count; ++i) {
        call.item = static_cast<std::int64_t>(i);
        Made made;
        if (call.rarely(4)) {  // only measured
            made.elements = made.item.n = call.size();
            made.item.parameter_type = any_type(call, kAnyType);
            made.item.parameter = call.array(made.item.n, item_size_of(made.item.parameter_type), false);
            if (made.item.parameter) made.written.push_back(call.arrays.back());  // what no gradient's zeros may meet
        } else {
            made =
                any_item(call, fusedstep_rule{}, false, false, [&](std::size_t offset) { return list.seen(offset); });
        }
        all.push_back(made);
        list.place(call, made.item, i);
    }
    refuse_zeroed(call, all);
    call.run(false, call.data.ConsumeBool(), [&](fusedstep_error* error) {
        return c_api.accumulate(list.announced, list.given, list.item_size, scale, norm, error);
    });
}

void gradient_norm(Call& call) {
    ItemList list(call);
    double* const norm = any_norm(call, false);
    for (std::size_t i = 0; i < list.count; ++i) {
        call.item = static_cast<std::int64_t>(i);
        Made made;
        set_sizes(call, [&](std::size_t offset) { return list.seen(offset); }, made);
        made.item.gradient_type = any_type(call, kAnyType);
        made.item.gradient = call.array(made.elements, item_size_of(made.item.gradient_type), false);
        list.place(call, made.item, i);
    }
    call.run(false, call.data.ConsumeBool(), [&](fusedstep_error* error) {
        return c_api.gradient_norm(list.announced, list.given, list.item_size, norm, error);
    });
}

// What batch normalisation and dropout have in common: the type, and the size of an element.
template <class Struct> std::size_t set_type(Call& call, Struct& value) {
    value.type = call.data.ConsumeIntegralInRange<std::int64_t>(FUSEDSTEP_FLOAT32, FUSEDSTEP_FLOAT64);
    const std::size_t item = kItemSizes[value.type];
    if (call.rarely(32)) value.type = call.data.ConsumeIntegralInRange<std::int64_t>(-1, 6);
    if (call.rarely(64)) value.type = call.data.ConsumeIntegral<std::int64_t>();
    call.refuse_if(value.type != FUSEDSTEP_FLOAT32 && value.type != FUSEDSTEP_FLOAT64);
    return value.type == FUSEDSTEP_FLOAT32 ? 4 : value.type == FUSEDSTEP_FLOAT64 ? 8 : item;
}

// A shape, and its number of elements. `needs_elements`: none for a channel must be refused.
template <class Struct> std::int64_t set_shape(Call& call, Struct& value, bool needs_elements) {
    std::int64_t shape[3], elements = 1;
    for (std::int64_t& n : shape) elements *= n = call.data.ConsumeIntegralInRange(0, 20);
    call.refuse_if(needs_elements && shape[1] > 0 && elements == 0);
    std::int64_t& odd = shape[call.data.ConsumeIntegralInRange(0, 2)];
    if (call.rarely(32)) {
        odd = call.data.ConsumeIntegralInRange<std::int64_t>(INT64_MIN, -1);
        call.refuse_if(true);
    } else if (call.rarely(32) && elements > 0) {  // past the address space
        odd = INT64_MAX / 4 + 1;
        call.refuse_if(true);
    }
    value.outer = shape[0], value.channels = shape[1], value.inner = shape[2];
    return elements;
}

template <class Struct, class Function> void run_layer(Call& call, const Struct& value, Function function) {
    const Struct* const given = call.sized_struct(value, call.struct_size(sizeof(Struct), sizeof(Struct)));
    call.run(true, call.data.ConsumeBool(), [&](fusedstep_error* error) { return function(given, error); });
}

// The result of a layer, which may be the memory of an input.
void* result_of(Call& call, const void* input, std::int64_t n, std::size_t item) {
    return call.data.ConsumeBool() ? call.array(n, item, true) : call.same(const_cast<void*>(input), n, item);
}

void batch_norm_training(Call& call) {
    fusedstep_batch_norm_training value{};
    const std::size_t item = set_type(call, value);
    const std::int64_t elements = set_shape(call, value, true), channels = value.channels;
    value.x = call.array(elements, item, false);
    value.y = result_of(call, value.x, elements, item);
    value.gamma = call.array(channels, item, false);
    value.beta = call.array(channels, item, false);
    value.eps = call.limited(0, std::numeric_limits<double>::max());
    for (double** statistic : {&value.mean, &value.var, &value.inv_std})
        *statistic = static_cast<double*>(call.array(channels, sizeof(double), true));
    run_layer(call, value, c_api.batch_norm_training);
}

void batch_norm_inference(Call& call) {
    fusedstep_batch_norm_inference value{};
    const std::size_t item = set_type(call, value);
    const std::int64_t elements = set_shape(call, value, false), channels = value.channels;
    value.x = call.array(elements, item, false);
    value.y = result_of(call, value.x, elements, item);
    value.gamma = call.array(channels, item, false);
    value.beta = call.array(channels, item, false);
    value.eps = call.limited(0, std::numeric_limits<double>::max());
    for (const double** statistic : {&value.mean, &value.var})
        *statistic = static_cast<double*>(call.array(channels, sizeof(double), false));
    run_layer(call, value, c_api.batch_norm_inference);
}

void batch_norm_backward(Call& call) {
    fusedstep_batch_norm_backward value{};
    const std::size_t item = set_type(call, value);
    const std::int64_t elements = set_shape(call, value, true), channels = value.channels;
    value.x = call.array(elements, item, false);
    value.dout = call.array(elements, item, false);
    value.dx = result_of(call, call.data.ConsumeBool() ? value.x : value.dout, elements, item);
    value.gamma = call.array(channels, item, false);
    for (const double** statistic : {&value.mean, &value.inv_std})
        *statistic = static_cast<double*>(call.array(channels, sizeof(double), false));
    for (void** gradient : {&value.dgamma, &value.dbeta}) *gradient = call.array(channels, item, true);
    run_layer(call, value, c_api.batch_norm_backward);
}

void dropout(Call& call) {
    fusedstep_dropout value{};
    const std::size_t item = set_type(call, value);
    value.n = call.size();
    value.x = call.array(value.n, item, false);
    value.y = result_of(call, value.x, value.n, item);
    value.rate = call.limited(0, std::nextafter(1.0, 0.0));
    value.seed = call.data.ConsumeIntegral<std::uint64_t>();
    value.call = call.data.ConsumeIntegral<std::uint64_t>();
    run_layer(call, value, c_api.dropout);
}

// The functions that fill a struct of the caller's size.
void descriptions(Call& call) {
    const int function = call.data.ConsumeIntegralInRange(0, 2);
    const fusedstep_rule rule = any_rule(call);
    const std::string name = call.rarely(16) ? "no " + call.data.ConsumeRandomLengthString(30) : rule.name;
    const bool no_name = call.rarely(32), unknown = no_name || name != rule.name;
    const std::int32_t count = function == 0 ? c_api.rule_count() : rule.hyperparameter_count;
    const auto index =
        call.rarely(8) ? call.data.ConsumeIntegral<std::int32_t>() : call.data.ConsumeIntegralInRange(0, count - 1);
    const std::size_t whole[] = {sizeof(fusedstep_rule), sizeof(fusedstep_hyperparameter), sizeof(fusedstep_settings)};
    const std::size_t least = function == 2 ? offsetof(fusedstep_settings, lr) : whole[function];
    call.refuse_if((function != 0 && unknown) || (function != 2 && (index < 0 || index >= count)));
    const std::size_t size = call.struct_size(whole[function], least), there = std::min(size, kLargestStruct);
    const bool no_result = call.rarely(32);
    call.refuse_if(no_result);
    unsigned char* const result = call.allocate(there);
    call.arrays.push_back({result, there, true});
    const char* const given = no_name ? nullptr : call.string(name);
    unsigned char* const to = no_result ? nullptr : result;
    call.run(false, false, [&](fusedstep_error*) {
        if (function == 0) return c_api.describe_rule(index, reinterpret_cast<fusedstep_rule*>(to), size);
        if (function == 2) return c_api.defaults(given, reinterpret_cast<fusedstep_settings*>(to), size);
        return c_api.describe_hyperparameter(given, index, reinterpret_cast<fusedstep_hyperparameter*>(to), size);
    });
}

void threads(Call& call) {
    const int n = call.rarely(4) ? call.data.ConsumeIntegral<int>() : call.data.ConsumeIntegralInRange(1, 3);
    const bool allowed = n >= 1 && n <= 1024;
    check((c_api.set_num_threads(n) == FUSEDSTEP_OK) == allowed, "another number of threads");
    check(c_api.error_message(n) != nullptr && c_api.get_num_threads() >= 1, "no message, or no thread");
    if (n > 3 && allowed) c_api.set_num_threads(3);  // more would only take long
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* bytes, std::size_t size) {
    FuzzedDataProvider data(bytes, size);
    Call call(data);
    constexpr void (*kFunctions[])(Call&) = {update,
                                             update,
                                             update,
                                             update,
                                             accumulate,
                                             gradient_norm,
                                             batch_norm_training,
                                             batch_norm_inference,
                                             batch_norm_backward,
                                             dropout,
                                             descriptions,
                                             threads};
    data.PickValueInArray(kFunctions)(call);
    return 0;
}
