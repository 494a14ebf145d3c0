// Prints a hash of what every kernel and driver computes, a line for each case: equal lines on two processors are equal
// bits. Needs neither Python nor the other processor.
//
//   hashes [ISA]       the kernel table to use; the newest one if none is named
//
// Inputs are integers scaled by powers of two, and so the same everywhere. A NaN is hashed as one and the same: which
// one an operation yields is the processor's own affair. Where float_mode.hpp can't flush subnormals, the lines that
// end in "flushed" differ. Each case runs on 1, 2 and 3 threads, which must agree.
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <limits>
#include <string>
#include <type_traits>
#include <vector>

#include "batch_norm.hpp"
#include "dispatch.hpp"
#include "dropout.hpp"
#include "float_mode.hpp"
#include "parallel.hpp"
#include "rules.hpp"
#include "step.hpp"

using namespace fusedstep;

namespace {

using std::int64_t;

template <class T> constexpr int kType = sizeof(T) == sizeof(float) ? kFloat32 : kFloat64;
template <class T> const char* const kTypeName = sizeof(T) == sizeof(float) ? "float32" : "float64";
template <class T> using Limits = std::numeric_limits<T>;

// FNV-1a of 64 bits, over words of 32 bits in place of bytes; of a double the lower word comes first.
class Hash {
  public:
    void add(std::uint32_t word) { value_ = (value_ ^ word) * 0x100000001b3u; }

    void add(float value) {
        std::uint32_t word = 0x7fc00000;
        if (value == value) std::memcpy(&word, &value, sizeof word);
        add(word);
    }

    void add(double value) {
        std::uint64_t word = 0x7ff8000000000000;
        if (value == value) std::memcpy(&word, &value, sizeof word);
        add(static_cast<std::uint32_t>(word));
        add(static_cast<std::uint32_t>(word >> 32));
    }

    template <class T> void add(const std::vector<T>& values) {
        for (const T value : values) add(value);
    }

    std::uint64_t value() const { return value_; }

  private:
    std::uint64_t value_ = 0xcbf29ce484222325;
};

bool failed = false;

void print(const std::string& name, const std::function<void(Hash&)>& compute) {
    std::uint64_t first = 0;
    for (int threads = 1; threads <= 3; ++threads) {
        set_num_threads(threads);
        Hash hash;
        compute(hash);
        if (threads == 1) first = hash.value();
        if (hash.value() == first) continue;
        std::fprintf(stderr, "%s: %d threads have other bits than one\n", name.c_str(), threads);
        failed = true;
    }
    std::printf("%016llx  %s\n", static_cast<unsigned long long>(first), name.c_str());
}

// A linear congruential generator (Knuth's MMIX), of whose bits the upper ones are used.
class Numbers {
  public:
    explicit Numbers(std::uint64_t seed) : state_(seed) { next(); }

    // A number of `digits` binary digits and either sign, below 2 and seldom below 2^-8.
    double operator()(int digits) {
        const auto whole = static_cast<int64_t>(next() >> (64 - digits)) - (int64_t{1} << (digits - 1));
        return std::ldexp(static_cast<double>(whole), 2 - digits - static_cast<int>(next() >> 61));
    }

  private:
    std::uint64_t next() { return state_ = state_ * 6364136223846793005u + 1442695040888963407u; }

    std::uint64_t state_;
};

template <class T> std::vector<T> numbers(int64_t n, std::uint64_t seed) {
    std::vector<T> values(static_cast<std::size_t>(n));
    Numbers number(seed);
    for (T& value : values) value = static_cast<T>(number(Limits<T>::digits));
    return values;
}

template <class T> std::vector<T> magnitudes(std::vector<T> values) {
    for (T& value : values) value = std::fabs(value);
    return values;
}

template <class T> std::vector<T> special_values() {
    const T tiny = Limits<T>::min(), least = Limits<T>::denorm_min(), huge = Limits<T>::max(),
            inf = Limits<T>::infinity();
    const T root = std::ldexp(T(1.5), Limits<T>::min_exponent / 2);  // its square is near the smallest normal number
    return {0,     -T(0),    1,      -T(1.5), tiny,
            -tiny, tiny / 2, -least, root,    -root / 4,
            huge,  -huge,    inf,    -inf,    Limits<T>::quiet_NaN()};
}

// How the arrays of an update lie in memory.
struct Placement {
    const char* name;
    int shift;           // the parameter begins so many elements behind a multiple of 64 bytes, the others further
    int gradient_step;   // between a gradient's elements, in elements
    int parameter_step;  // also of the state
    int odd_bytes;       // that the gradient is behind its alignment
    bool other_type;     // of the gradient
};

constexpr Placement kPlain = {"plain", 0, 1, 1, 0, false};
constexpr Placement kPlacements[] = {{"shifted", 1, 1, 1, 0, false},
                                     {"strided gradient", 0, 3, 1, 0, false},
                                     {"reversed gradient", 0, -1, 1, 0, false},
                                     {"unaligned gradient", 0, 1, 1, 1, false},
                                     {"gradient of the other type", 0, 1, 1, 0, true},
                                     {"strided parameter", 0, 1, 2, 0, false}};

// An array with room around it: elements `step` apart, the first (or if step < 0 the last) of them at `begin`.
class Room {
  public:
    template <class T> Room(const std::vector<T>& values, int step, int begin, int odd_bytes) {
        const auto n = static_cast<int64_t>(values.size());
        bytes_.assign(static_cast<std::size_t>((n + 1) * std::abs(step) + begin + 32) * sizeof(T), 0x55);
        char* start = bytes_.data();
        while (reinterpret_cast<std::uintptr_t>(start) % 64 != 0) ++start;
        start += begin * int64_t{sizeof(T)} + odd_bytes;
        const int64_t stride = step * int64_t{sizeof(T)};
        if (step < 0) start += (n - 1) * -stride;
        shape_ = n;
        stride_ = stride;
        start_ = start;
        storage_ = kType<T>;
        for (int64_t i = 0; i < n; ++i)
            std::memcpy(start + i * stride, &values[static_cast<std::size_t>(i)], sizeof(T));
    }

    Room(Room&&) = default;  // what start_ points to stays where it is

    View view() const { return {start_, storage_, 1, &shape_, &stride_}; }

    template <class T> void add_to(Hash& hash) const {
        for (int64_t i = 0; i < shape_; ++i) {
            T value;
            std::memcpy(&value, start_ + i * stride_, sizeof value);
            hash.add(value);
        }
    }

  private:
    std::vector<char> bytes_;
    char* start_ = nullptr;
    Extent shape_ = 0, stride_ = 0;
    int storage_ = 0;
};

// The arrays of one parameter: the parameter, its gradient, its state.
template <class T> struct Arrays {
    std::vector<T> parameter, gradient, state[2];
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
    const std::string name = std::string(row.formula.name) + (l2 ? " l2 " : " ") + kTypeName<T> + " ";
    const Program program = row.formula.program(kType<T>, l2 ? row.decay : 0);
    const int64_t sizes[] = {0, 1, 7, 8, 9, 63, 64, 65, 1000, 100003};
    std::vector<Arrays<T>> all;
    for (const int64_t n : sizes) all.push_back(random_arrays<T>(n));
    for (const Arrays<T>& arrays : all)
        print(name + std::to_string(arrays.parameter.size()),
              [&](Hash& hash) { hash_update<T>(hash, program, {arrays}, kPlain); });
    print(name + "all sizes at once", [&](Hash& hash) { hash_update(hash, program, all, kPlain); });
    for (const Placement& placement : kPlacements)
        print(name + placement.name,
              [&](Hash& hash) { hash_update<T>(hash, program, {all[7], all[8], random_arrays<T>(40000)}, placement); });
    for (const bool flush : {true, false}) {
        flush_subnormals = flush;
        print(name + (flush ? "special values, flushed" : "special values"),
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
    const std::string name = std::string("batch_norm ") + kTypeName<T> + " ";
    for (const Layout& layout : layouts) {
        const std::vector<T> x = numbers<T>(layout.size(), 8), dout = numbers<T>(layout.size(), 9);
        print(name + std::to_string(layout.outer) + "x" + std::to_string(layout.channels) + "x" +
                  std::to_string(layout.inner),
              [&](Hash& hash) { hash_batch_norm(hash, layout, x, dout); });
    }
    for (const Layout& layout : {Layout{6, 8, 400}, Layout{2400, 8, 1}}) {
        const std::vector<T> x = special_input<T>(layout), dout = numbers<T>(layout.size(), 9);
        for (const bool flush : {true, false}) {
            flush_subnormals = flush;
            print(name + (layout.inner == 1 ? "side by side, " : "in runs, ") +
                      (flush ? "special values, flushed" : "special values"),
                  [&](Hash& hash) { hash_batch_norm(hash, layout, x, dout); });
        }
        flush_subnormals = true;
    }
}

template <class T> void print_dropout() {
    const std::string name = std::string("dropout ") + kTypeName<T> + " ";
    const auto hash_dropout = [](Hash& hash, const std::vector<T>& x, std::uint32_t threshold) {
        const DropoutMask mask = {0x0123456789abcdef, 0xfedcba9876543210, threshold, 1 / (1 - threshold / 4294967296.)};
        std::vector<T> y(x.size(), 7);
        dropout(x.data(), y.data(), kType<T>, static_cast<int64_t>(x.size()), mask);
        hash.add(y);
    };
    // The first threshold takes 16 bits of an element, the others all 32.
    for (const std::uint32_t threshold : {0x40000000u, 0x80000001u, 0x1999999au}) {
        char text[32];
        std::snprintf(text, sizeof text, " threshold %08x", threshold);
        for (const int64_t n : {0, 1, 63, 64, 65, 1000, 100003, 2200000}) {
            const std::vector<T> x = numbers<T>(n, 10);
            print(name + std::to_string(n) + text, [&](Hash& hash) { hash_dropout(hash, x, threshold); });
        }
    }
    std::vector<T> x;
    for (int i = 0; i < 100; ++i)
        for (const T value : special_values<T>()) x.push_back(value);
    for (const bool flush : {true, false}) {
        flush_subnormals = flush;
        print(name + (flush ? "special values, flushed" : "special values"),
              [&](Hash& hash) { hash_dropout(hash, x, 0x80000001u); });
    }
    flush_subnormals = true;
}

template <class T> void print_all() {
    for (const Row& row : kRows)
        for (const bool l2 : {false, true}) print_updates<T>(row, l2);
    print_batch_norm<T>();
    print_dropout<T>();
}

}  // namespace

int main(int argc, char** argv) {
    if (argc > 2 || (argc == 2 && !use_table(argv[1]))) {
        std::fprintf(stderr, "usage: hashes [ISA], one of:");
        for (const KernelTable* usable : usable_tables()) std::fprintf(stderr, " %s", usable->isa);
        std::fprintf(stderr, "\n");
        return 2;
    }
    print_all<float>();
    print_all<double>();
    return failed ? 1 : 0;
}
