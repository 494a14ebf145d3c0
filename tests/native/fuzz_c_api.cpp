// A fuzz target for the C interface: hostile sizes, structs, names, types and numbers, null and misaligned pointers,
// overlapping arrays.
//
// Each input is one call. Its arrays, structs and strings are allocations of exactly their size, so that
// AddressSanitizer sees a step too far, or the arrays are in one block, where they overlap. What the call must be
// refused for, at which item, and which bytes it may write is worked out here.
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
void set_options(Call& call, const fusedstep_rule& rule, bool seen, fusedstep_settings& settings) {
    std::vector<fusedstep_option> options;
    bool bad = false;
    for (int i = 0; i < rule.hyperparameter_count; ++i) {
        const fusedstep_hyperparameter known = hyperparameter(rule, i);
        if (!known.is_option ? !call.rarely(64) : call.data.ConsumeBool()) continue;
        bad |= known.is_option == 0;
        const double value = call.number(known.minimum, known.maximum, known.is_flag != 0);
        if (seen) call.limit(value, known.minimum, known.maximum, known.is_flag != 0);
        options.push_back({call.string(known.name), value});
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
        settings.option_count = call.rarely(2) ? call.data.ConsumeIntegralInRange<std::int64_t>(17, INT64_MAX)
                                               : call.data.ConsumeIntegralInRange<std::int64_t>(INT64_MIN, -1);
        bad = true;
    }
    call.refuse_if(seen && bad);
}

const fusedstep_settings* any_settings(Call& call, const fusedstep_rule& rule) {
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
    set_options(call, rule, seen(offsetof(fusedstep_settings, option_count)), settings);
    return call.sized_struct(settings, size);
}

// A storage type; `right`: the only one that may be taken, or 0.
std::int32_t any_type(Call& call, std::int32_t right, bool seen = true) {
    std::int32_t type = right != 0 ? right : call.data.ConsumeIntegralInRange(1, 4);
    if (call.rarely(32)) type = call.data.ConsumeIntegralInRange(0, 5);
    if (call.rarely(64)) type = call.data.ConsumeIntegral<std::int32_t>();
    call.refuse_if(seen && (type < 1 || type > 4 || (right != 0 && type != right)));
    return type;
}

std::size_t item_size_of(std::int32_t type) {
    return kItemSizes[type >= 1 && type <= 4 ? type : 0];
}

fusedstep_item any_item(Call& call, const fusedstep_rule& rule, const fusedstep_settings* settings, bool has_copy) {
    fusedstep_item item{};
    const std::size_t first = call.arrays.size();
    item.settings = settings;
    item.n = call.size();
    item.parameter_type = any_type(call, 0);
    item.gradient_type = any_type(call, 0);
    const std::int32_t arithmetic = item.parameter_type == FUSEDSTEP_FLOAT64 ? FUSEDSTEP_FLOAT64 : FUSEDSTEP_FLOAT32;
    item.state_type = any_type(call, arithmetic, rule.state_count > 0);
    const bool copies = has_copy && call.data.ConsumeBool();
    item.copy_type = any_type(call, 0, copies);
    item.parameter = call.array(item.n, item_size_of(item.parameter_type), true);
    for (int i = 0; i < rule.state_count; ++i) item.state[i] = call.array(item.n, item_size_of(arithmetic), true);
    if (copies) item.copy = call.array(item.n, item_size_of(item.copy_type), true, false);
    for (std::size_t i = first; i < call.arrays.size(); ++i)
        for (std::size_t j = first; j < i; ++j) call.refuse_if(call.arrays[i].overlaps(call.arrays[j]));
    item.gradient = call.array(item.n, item_size_of(item.gradient_type), false);
    return item;
}

void update(Call& call) {
    const auto count = static_cast<std::size_t>(call.data.ConsumeIntegralInRange(0, 5));
    std::int64_t announced = static_cast<std::int64_t>(count);
    if (call.rarely(64)) announced = call.data.ConsumeIntegralInRange<std::int64_t>(INT64_MIN, -1);
    if (call.rarely(64)) announced = call.data.ConsumeIntegralInRange<std::int64_t>(INT64_MAX / 1024 + 1, INT64_MAX);
    call.refuse_if(announced != static_cast<std::int64_t>(count));
    const std::size_t item_size = call.struct_size(sizeof(fusedstep_item), offsetof(fusedstep_item, copy));
    const bool no_items = call.rarely(64) && count > 0;
    call.refuse_if(no_items);
    const std::size_t there = std::min(item_size, kLargestStruct);
    unsigned char* const items = call.allocate(count * there);

    struct Shared {
        fusedstep_rule rule;
        const fusedstep_settings* settings;
    };
    std::vector<Shared> shared;
    for (std::size_t i = 0; i < count; ++i) {
        call.item = static_cast<std::int64_t>(i);
        const bool makes = shared.empty() || call.data.ConsumeBool();
        if (makes) {
            const fusedstep_rule rule = any_rule(call);
            shared.push_back({rule, any_settings(call, rule)});
        }
        const std::size_t last = shared.size() - 1;
        const Shared& taken = shared[makes ? last : call.data.ConsumeIntegralInRange<std::size_t>(0, last)];
        const bool has_copy = item_size > offsetof(fusedstep_item, copy);
        const fusedstep_item item = any_item(call, taken.rule, taken.settings, has_copy);
        call.place(item, there, items + i * there);
    }
    call.run(false, call.data.ConsumeBool(), [&](fusedstep_error* error) {
        return c_api.update(announced, no_items ? nullptr : reinterpret_cast<fusedstep_item*>(items), item_size, error);
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
    constexpr void (*kFunctions[])(Call&) = {
        update,  update,       update, update, batch_norm_training, batch_norm_inference, batch_norm_backward,
        dropout, descriptions, threads};
    data.PickValueInArray(kFunctions)(call);
    return 0;
}
