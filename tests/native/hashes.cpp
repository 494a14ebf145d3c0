// Prints a hash of what every kernel and driver computes, a line for each rule and function: equal lines on two
// processors are equal bits. Needs neither Python nor the other processor.
//
//   hashes [ISA [GROUP]]   the kernel table to use; the newest one if none is named. GROUP: what a line ends in, such
//   as
//                          "adam float32", to see a line for each of its cases, or "all".
//
// Inputs are integers scaled by powers of two, and so the same everywhere. A NaN is hashed as one and the same: which
// one an operation yields is the processor's own affair. Where float_mode.hpp can't flush subnormals, the lines that
// end in "flushed" differ. Each case runs on 1, 2 and 3 threads, which must agree.
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <type_traits>
#include <vector>

#include "batch_norm.hpp"
#include "dispatch.hpp"
#include "dropout.hpp"
#include "float_mode.hpp"
#include "hashing.hpp"
#include "option_hashes.hpp"
#include "parallel.hpp"
#include "placement.hpp"
#include "rules.hpp"
#include "step.hpp"

using namespace fusedstep;

namespace {

template <class T> const char* const kTypeName = sizeof(T) == sizeof(float) ? "float32" : "float64";

// The arrays of one parameter: the parameter, its gradient, its state.
template <class T> struct Arrays {
    std::vector<T> parameter, gradient, state[kMaxStates];
};

template <class T> Arrays<T> random_arrays(int64_t n) {
    return {numbers<T>(n, 1), numbers<T>(n, 2), {magnitudes(numbers<T>(n, 3)), magnitudes(numbers<T>(n, 4))}};
}

// Every special value with every other.
template <class T> Arrays<T> special_arrays() {
    const std::vector<T> values = special_values<T>();
    Arrays<T> arrays;
    for (std::size_t i = 0; i < values.size(); ++i) {
        for (const T gradient : values) {
            for (const T parameter : values) {
                arrays.parameter.push_back(parameter);
                arrays.gradient.push_back(gradient);
                arrays.state[0].push_back(values[i]);
                arrays.state[1].push_back(std::fabs(values[(i + 5) % values.size()]));
            }
        }
    }
    return arrays;
}

// A rule with coefficients that belong to no hyper-parameters: what counts is that they are no short fractions.
struct Formula {
    const char *name, *stage;
    int states;
    std::initializer_list<double> coefficients;
    double keep;  // of decoupled decay, or 1

    Program program(int arithmetic, double decay) const {
        Program result(arithmetic, states);
        if (decay != 0) result.call("add_decay", {kGradient, kParameter}, {decay});
        if (keep != 1) result.call("shrink", {kParameter}, {keep});
        if (states == 0) result.call(stage, {kParameter, kGradient}, coefficients);
        if (states == 1) result.call(stage, {kParameter, kGradient, kState}, coefficients);
        if (states == 2) result.call(stage, {kParameter, kGradient, kState, kState + 1}, coefficients);
        return result;
    }
};

// The moments stay positive. The decay is that of the line "l2".
struct Row {
    Formula formula;
    double decay;
};

const Row kRows[] = {
    {{"sgd", "sgd", 0, {0.01}, 1}, 0.9},
    {{"momentum", "momentum", 1, {0.01, 0.9}, 1}, 0.1},
    {{"momentum_plain_velocity", "momentum_plain_velocity", 1, {0.01, 0.9}, 1}, 0.1},
    {{"nesterov", "nesterov", 1, {0.01, 0.9, 0.1, 0.001}, 1}, 0.3},
    {{"nesterov_new_velocity", "nesterov_new_velocity", 1, {0.01, 0.9, 0.1, 0.001}, 1}, 0.3},
    {{"adagrad", "adagrad", 1, {0.01, 0.9, 0.1}, 1}, 0.001},
    {{"rmsprop", "rmsprop", 1, {0.01, 0.9, 0.1, 0.001, 0.3}, 1}, 0.99},
    {{"adam", "adam", 2, {0.01, 0.9, 0.1, 0.001, 0.3}, 1}, 0.99},
    {{"adamw", "adam", 2, {0.01, 0.9, 0.1, 0.001, 0.3}, 0.99}, 0.7},
};

// Three steps over a list of parameters, in one call each.
template <class T>
void hash_update(Hash& hash, const Program& program, const std::vector<Arrays<T>>& list, const Placement& placement) {
    std::vector<std::vector<Room>> rooms;
    for (const Arrays<T>& arrays : list) {
        std::vector<Room> here;
        const int shift = placement.shift;
        here.emplace_back(arrays.parameter, placement.parameter_step, shift, 0);
        if (placement.other_type) {
            using Other = std::conditional_t<kType<T> == kFloat32, double, float>;
            here.emplace_back(numbers<Other>(static_cast<int64_t>(arrays.gradient.size()), 5), placement.gradient_step,
                              2 * shift, placement.odd_bytes);
        } else {
            here.emplace_back(arrays.gradient, placement.gradient_step, 2 * shift, placement.odd_bytes);
        }
        for (int i = 0; i < program.states; ++i)
            here.emplace_back(arrays.state[i], placement.parameter_step, (3 + i) * shift, 0);
        rooms.push_back(std::move(here));
    }
    for (int step = 0; step < 3; ++step) {
        Step all;
        for (const std::vector<Room>& here : rooms) {
            std::vector<View> views;
            for (const Room& room : here) views.push_back(room.view());
            all.add(program, views.data());
        }
        all.plan();
        all.run();
    }
    for (const std::vector<Room>& here : rooms)
        for (std::size_t i = 0; i < here.size(); ++i)
            if (i != kGradient) here[i].add_to<T>(hash);
}

template <class T> void print_updates(const Row& row, bool l2) {
    const std::string group = std::string(row.formula.name) + (l2 ? " l2 " : " ") + kTypeName<T>;
    const Program program = row.formula.program(kType<T>, l2 ? row.decay : 0);
    const int64_t sizes[] = {0, 1, 7, 8, 9, 63, 64, 65, 1000, 100003};
    std::vector<Arrays<T>> all;
    for (const int64_t n : sizes) all.push_back(random_arrays<T>(n));
    for (const Arrays<T>& arrays : all)
        print(group, std::to_string(arrays.parameter.size()),
              [&](Hash& hash) { hash_update<T>(hash, program, {arrays}, kPlain); });
    print(group, "all sizes at once", [&](Hash& hash) { hash_update(hash, program, all, kPlain); });
    for (const Placement& placement : kPlacements)
        print(group, placement.name,
              [&](Hash& hash) { hash_update<T>(hash, program, {all[7], all[8], random_arrays<T>(40000)}, placement); });
    for (const bool flush : {true, false}) {
        flush_subnormals = flush;
        print(group, flush ? "special values, flushed" : "special values",
              [&](Hash& hash) { hash_update<T>(hash, program, {special_arrays<T>()}, kPlain); });
    }
    flush_subnormals = true;
}

template <class T>
void hash_batch_norm(Hash& hash, const Layout& layout, const std::vector<T>& x, const std::vector<T>& dout) {
    const auto channels = static_cast<std::size_t>(layout.channels);
    const std::vector<double> gamma = numbers<double>(layout.channels, 6), beta = numbers<double>(layout.channels, 7);
    std::vector<double> mean(channels, 7), var(channels, 7), inv_std(channels, 7), dgamma(channels, 7),
        dbeta(channels, 7);
    std::vector<T> result(x.size(), 7);
    batch_norm_training(layout, x.data(), result.data(), gamma.data(), beta.data(), 1e-5, mean.data(), var.data(),
                        inv_std.data());
    hash.add(result);
    for (const auto* values : {&mean, &var, &inv_std}) hash.add(*values);
    batch_norm_backward(layout, x.data(), dout.data(), result.data(), gamma.data(), mean.data(), inv_std.data(),
                        dgamma.data(), dbeta.data());
    hash.add(result);
    for (const auto* values : {&dgamma, &dbeta}) hash.add(*values);
    batch_norm_inference(layout, x.data(), result.data(), gamma.data(), beta.data(), mean.data(), var.data(), 1e-5);
    hash.add(result);
}

// Channels of which each is difficult in another way.
template <class T> std::vector<T> special_input(const Layout& layout) {
    std::vector<T> x = numbers<T>(layout.size(), 8);
    for (std::size_t i = 0; i < x.size(); ++i) {
        const auto position = static_cast<int64_t>(i);
        const bool first = position / layout.inner % layout.channels + position / (layout.inner * layout.channels) == 3;
        switch (position / layout.inner % layout.channels) {
            case 0:
                x[i] = T(0.3);
                break;  // no variance
            case 1:
                x[i] = first ? Limits<T>::quiet_NaN() : x[i];
                break;
            case 2:
                x[i] = first ? Limits<T>::infinity() : x[i];
                break;
            case 3:
                x[i] += 10000;
                break;  // a mean far from zero
            case 4:
                x[i] = std::ldexp(x[i], Limits<T>::min_exponent - 2);
                break;  // subnormal
            case 5:
                x[i] = std::ldexp(x[i], Limits<T>::max_exponent - 1);
                break;  // overflows
            case 6:
                x[i] = -T(0);
                break;
            default:
                break;
        }
    }
    return x;
}

template <class T> void print_batch_norm() {
    // Channels in runs, then channels side by side; the last of each is stored past the caches if T is double.
    const Layout layouts[] = {{1, 1, 1},     {3, 2, 5},      {8, 16, 49},    {2, 3, 1000},  {1, 2, 100003},
                              {4, 1, 70000}, {2, 3, 350000}, {1, 7, 1},      {33, 5, 1},    {65, 64, 1},
                              {300, 70, 1},  {5, 1100, 1},   {2100, 130, 1}, {300, 7000, 1}};
    const std::string group = std::string("batch_norm ") + kTypeName<T>;
    for (const Layout& layout : layouts) {
        const std::vector<T> x = numbers<T>(layout.size(), 8), dout = numbers<T>(layout.size(), 9);
        print(group,
              std::to_string(layout.outer) + "x" + std::to_string(layout.channels) + "x" + std::to_string(layout.inner),
              [&](Hash& hash) { hash_batch_norm(hash, layout, x, dout); });
    }
    for (const Layout& layout : {Layout{6, 8, 400}, Layout{2400, 8, 1}}) {
        const std::vector<T> x = special_input<T>(layout), dout = numbers<T>(layout.size(), 9);
        for (const bool flush : {true, false}) {
            flush_subnormals = flush;
            print(group,
                  std::string(layout.inner == 1 ? "side by side, " : "in runs, ") +
                      (flush ? "special values, flushed" : "special values"),
                  [&](Hash& hash) { hash_batch_norm(hash, layout, x, dout); });
        }
        flush_subnormals = true;
    }
}

template <class T> void print_dropout() {
    const std::string group = std::string("dropout ") + kTypeName<T>;
    const auto hash_dropout = [](Hash& hash, const std::vector<T>& x, std::uint32_t threshold) {
        const DropoutMask mask = {0x0123456789abcdef, 0xfedcba9876543210, threshold, 1 / (1 - threshold / 4294967296.)};
        std::vector<T> y(x.size(), 7);
        dropout(x.data(), y.data(), kType<T>, static_cast<int64_t>(x.size()), mask);
        hash.add(y);
    };
    // The first threshold takes 16 bits of an element, the others all 32.
    for (const std::uint32_t threshold : {0x40000000u, 0x80000001u, 0x1999999au}) {
        char text[32];
        std::snprintf(text, sizeof text, " threshold %08x", static_cast<unsigned>(threshold));
        for (const int64_t n : {0, 1, 63, 64, 65, 1000, 100003, 2200000}) {
            const std::vector<T> x = numbers<T>(n, 10);
            print(group, std::to_string(n) + text, [&](Hash& hash) { hash_dropout(hash, x, threshold); });
        }
    }
    std::vector<T> x;
    for (int i = 0; i < 100; ++i)
        for (const T value : special_values<T>()) x.push_back(value);
    for (const bool flush : {true, false}) {
        flush_subnormals = flush;
        print(group, flush ? "special values, flushed" : "special values",
              [&](Hash& hash) { hash_dropout(hash, x, 0x80000001u); });
    }
    flush_subnormals = true;
}

// Three steps with parameters and gradients of 16 bits and float32 state: all sizes, every narrow number with another,
// and a copy of another type.
void print_narrow(const Row& row, bool l2, int storage, const char* storage_name) {
    const std::string group = std::string(row.formula.name) + (l2 ? " l2 " : " ") + storage_name;
    const Program program = row.formula.program(kFloat32, l2 ? row.decay : 0);
    for (const int64_t n : {1, 7, 8, 9, 63, 64, 65, 1000, 65536, 100003}) {
        const int copy_storage = n % 2 == 0 ? kFloat16 : kBFloat16;
        print(group, std::to_string(n), [&](Hash& hash) {
            std::vector<std::uint16_t> parameter, gradient, copy(static_cast<std::size_t>(n), 7);
            for (int64_t i = 0; i < n; ++i) {
                parameter.push_back(static_cast<std::uint16_t>(i));
                gradient.push_back(static_cast<std::uint16_t>(i * 40503));
            }
            std::vector<float> state[2] = {magnitudes(numbers<float>(n, 3)), magnitudes(numbers<float>(n, 4))};
            const Extent shape = n, narrow = 2, wide = 4;
            const View views[] = {{reinterpret_cast<char*>(parameter.data()), storage, 1, &shape, &narrow},
                                  {reinterpret_cast<char*>(gradient.data()), storage, 1, &shape, &narrow},
                                  {reinterpret_cast<char*>(state[0].data()), kFloat32, 1, &shape, &wide},
                                  {reinterpret_cast<char*>(state[1].data()), kFloat32, 1, &shape, &wide}};
            const View copied = {reinterpret_cast<char*>(copy.data()), copy_storage, 1, &shape, &narrow};
            for (int step = 0; step < 3; ++step) {
                Step all;
                Around around;
                around.copy = &copied;
                all.add(program, views, around);
                all.plan();
                all.run();
            }
            // A NaN's payload is the processor's own affair.
            const auto is_nan = [](std::uint16_t bits, int type) {
                return (bits & 0x7fff) > (type == kFloat16 ? 0x7c00 : 0x7f80);
            };
            for (const std::uint16_t bits : parameter) hash.add(std::uint32_t{is_nan(bits, storage) ? 0xffffu : bits});
            for (const std::uint16_t bits : copy) hash.add(std::uint32_t{is_nan(bits, copy_storage) ? 0xffffu : bits});
            for (int i = 0; i < program.states; ++i) hash.add(state[i]);
        });
    }
}

// Every rule with its default hyper-parameters, as a program that core/rules.cpp builds, at its first step: powers of
// numbers are the C library's own affair.
template <class T> void print_rules() {
    for (const Rule& rule : rules()) {
        Values values;
        for (std::size_t i = 0; i < rule.hyperparameters.size(); ++i) values[i] = rule.hyperparameters[i].fallback;
        for (const double decay : {0.0, 0.1}) {
            values[kWeightDecay] = decay;
            const std::string group = std::string("rule ") + rule.name + (decay != 0 ? " decay " : " ") + kTypeName<T>;
            Program program;
            build(rule, kType<T>, values, 1, {}, program);
            for (const int64_t n : {1, 1000, 100003})
                print(group, std::to_string(n), [&](Hash& hash) {
                    Arrays<T> arrays = random_arrays<T>(n);
                    for (int i = 2; i < program.states; ++i) arrays.state[i] = magnitudes(numbers<T>(n, 12 + i));
                    if (rule.is_factored()) arrays.state[0].clear();  // there are no rows
                    hash_update<T>(hash, program, {arrays}, kPlain);
                });
        }
    }
}

// Stages that rules have after their first step only, with coefficients as in kRows.
template <class T> void print_later_stages() {
    const auto print_stage = [](const char* stage, std::initializer_list<int> operands,
                                std::initializer_list<double> coefficients) {
        Program program(kType<T>, static_cast<int>(operands.size()) - 2);
        program.call(stage, operands, coefficients);
        print(std::string("stage ") + stage + " " + kTypeName<T>, "1000", [&](Hash& hash) {
            Arrays<T> arrays = random_arrays<T>(1000);
            for (int i = 2; i < program.states; ++i) arrays.state[i] = magnitudes(numbers<T>(1000, 12 + i));
            hash_update<T>(hash, program, {arrays}, kPlain);
        });
    };
    print_stage("adopt", {kParameter, kGradient, kState, kState + 1}, {0.01, 0.1, 0.001, 0.3});
    print_stage("adopt_clipped", {kParameter, kGradient, kState, kState + 1}, {0.7, 0.01, 0.1, 0.001, 0.3});
    print_stage("adan", {kParameter, kGradient, kState, kState + 1, kState + 2, kState + 3},
                {0.01, 0.9, 0.1, 0.001, 0.3, 0.7, 0.1, 0.001, 0.99});
}

template <class T> void print_squares() {
    const std::string group = std::string("sum of squares ") + kTypeName<T>;
    for (const int64_t n : {0, 1, 7, 8, 9, 15, 16, 17, 1000, 1023, 1024})
        print(group, std::to_string(n),
              [&](Hash& hash) { hash.add(table().sum_of_squares[kType<T>](n, numbers<T>(n, 11).data())); });
}

template <class T> void print_all() {
    for (const Row& row : kRows)
        for (const bool l2 : {false, true}) print_updates<T>(row, l2);
    print_batch_norm<T>();
    print_dropout<T>();
}

}  // namespace

int main(int argc, char** argv) {
    if (argc > 3 || (argc >= 2 && !use_table(argv[1]))) {
        std::fprintf(stderr, "usage: hashes [ISA [GROUP]], one of:");
        for (const KernelTable* usable : usable_tables()) std::fprintf(stderr, " %s", usable->isa);
        std::fprintf(stderr, "\n");
        return 2;
    }
    if (argc == 3) details = argv[2];
    print_all<float>();
    print_all<double>();
    for (const Row& row : kRows) {
        for (const bool l2 : {false, true}) {
            print_narrow(row, l2, kFloat16, "float16");
            print_narrow(row, l2, kBFloat16, "bfloat16");
        }
    }
    print_rules<float>();
    print_rules<double>();
    print_later_stages<float>();
    print_later_stages<double>();
    print_squares<float>();
    print_squares<double>();
    print_options();
    if (details.empty())
        for (const auto& [name, hash] : groups)
            std::printf("%016llx  %s\n", static_cast<unsigned long long>(hash.value()), name.c_str());
    return failed ? 1 : 0;
}
