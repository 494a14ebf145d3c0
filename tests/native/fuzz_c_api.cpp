// A fuzz target for the C interface: hostile sizes, null pointers, misaligned and overlapping arrays, odd numbers.
//
// Each input is one call. Its arrays are allocations of exactly their size, so that AddressSanitizer sees a step too
// far, or they lie in one block, where they overlap. What the call must be refused for is worked out here, and which
// bytes it may write.
#include <fuzzer/FuzzedDataProvider.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <iterator>
#include <memory>
#include <string>
#include <vector>

#include "c_api.hpp"

namespace {

using fusedstep::c_api;

void check(bool holds, const char* what) {
    if (holds) return;
    std::fprintf(stderr, "%s\n", what);
    std::abort();
}

constexpr std::size_t kBlock = 4096;  // bytes in which arrays overlap

class Call {
  public:
    explicit Call(FuzzedDataProvider& data)
        : data(data), together_(data.ConsumeBool()), block_(new unsigned char[kBlock]) {
        fill(block_.get(), kBlock);
    }

    FuzzedDataProvider& data;

    // One in n.
    bool rarely(int n) { return data.ConsumeIntegralInRange(1, n) == n; }

    void refuse_if(bool bad) { refused_ |= bad; }

    // The number of elements of arrays; now and then negative or past the address space.
    std::int64_t size(std::size_t item) {
        const auto largest = static_cast<std::int64_t>(INT64_MAX / item);
        std::int64_t n = data.ConsumeIntegralInRange(0, together_ ? 40 : 300);
        if (rarely(16)) n = data.ConsumeIntegralInRange<std::int64_t>(INT64_MIN, -1);
        if (rarely(16)) n = data.ConsumeIntegralInRange<std::int64_t>(largest + 1, INT64_MAX);
        if (rarely(64) && !together_) n = data.ConsumeIntegralInRange(30000, 70000);
        refuse_if(n < 0 || n > largest);
        return n;
    }

    // An array of n elements, or what must be refused in its place.
    template <class T> T* array(std::int64_t n, bool written) {
        n = present(n);
        const bool null = rarely(32), odd = rarely(32);
        refuse_if(n > 0 && (null || odd));
        if (null) return nullptr;
        const std::size_t shift = odd ? 1 : 0, bytes = static_cast<std::size_t>(n) * sizeof(T) + shift;
        unsigned char* base;
        if (together_ && bytes <= kBlock) {
            base = block_.get() + sizeof(T) * data.ConsumeIntegralInRange<std::size_t>(0, (kBlock - bytes) / sizeof(T));
        } else {
            own_.push_back(std::make_unique<unsigned char[]>(bytes));
            base = own_.back().get();
            fill(base, bytes);
        }
        arrays_.push_back({base + shift, bytes - shift, written});
        return reinterpret_cast<T*>(base + shift);
    }

    // The same array as another, to be written.
    template <class T> T* same(T* other, std::int64_t n) {
        const std::size_t bytes = static_cast<std::size_t>(present(n)) * sizeof(T);
        if (other) arrays_.push_back({reinterpret_cast<unsigned char*>(other), bytes, true});
        return other;
    }

    // A number from 0 to a limit, mostly below `usual`; now and then any number.
    double number(double limit, bool limit_allowed, double usual) {
        double value = data.ConsumeFloatingPointInRange(0.0, usual);
        if (rarely(32)) value = limit;
        if (rarely(32)) value = data.ConsumeFloatingPoint<double>();
        refuse_if(!(value >= 0 && (value < limit || (limit_allowed && value == limit))));
        may_overflow_ |= value > 1e100;
        return value;
    }
    double fraction() { return number(1, false, 0.999); }
    double momentum() { return number(1, true, 0.999); }
    double magnitude() { return number(HUGE_VAL, false, rarely(16) ? 1e300 : 1e3); }

    std::int64_t step() {
        const auto t = rarely(16) ? data.ConsumeIntegral<std::int64_t>() : data.ConsumeIntegralInRange(1, 1000);
        refuse_if(t < 1);
        return t;
    }

    // What f, which returns a code, may do: write the arrays that are to be written, if it is not refused.
    template <class F> void run(F f) {
        std::vector<std::vector<unsigned char>> before;
        for (const Memory& m : arrays_) before.emplace_back(m.at, m.at + m.bytes);
        const std::vector<unsigned char> block(block_.get(), block_.get() + kBlock);
        const int code = f();
        check(code >= FUSEDSTEP_OK && code < FUSEDSTEP_INTERNAL_ERROR, "no such code");
        check(!refused_ || code != FUSEDSTEP_OK, "took what it must refuse");
        check(refused_ || together_ || code == FUSEDSTEP_OK || (may_overflow_ && code == FUSEDSTEP_OUT_OF_RANGE),
              "refused what it must take");
        std::vector<bool> may_change(kBlock);
        for (std::size_t i = 0; i < arrays_.size(); ++i) {
            const Memory& m = arrays_[i];
            const bool inside = m.at >= block_.get() && m.at < block_.get() + kBlock;
            if (code == FUSEDSTEP_OK && m.written && inside)
                std::fill_n(may_change.begin() + (m.at - block_.get()), m.bytes, true);
            if (code != FUSEDSTEP_OK) check(std::equal(m.at, m.at + m.bytes, before[i].begin()), "wrote, then refused");
        }
        for (std::size_t i = 0; i < kBlock; ++i)
            check(may_change[i] || block[i] == block_[i], "wrote outside what it was given to write");
    }

  private:
    struct Memory {
        unsigned char* at;
        std::size_t bytes;
        bool written;
    };

    // How many elements there are in memory where n are announced.
    static std::int64_t present(std::int64_t n) { return n < 0 || n > 100000 ? 1 : n; }

    void fill(unsigned char* to, std::size_t n) {
        auto state = data.ConsumeIntegral<std::uint32_t>();
        for (std::size_t i = 0; i < n; ++i)
            to[i] = static_cast<unsigned char>((state = state * 1664525 + 1013904223) >> 24);
    }

    bool together_, refused_ = false;
    bool may_overflow_ = false;  // a coefficient, of a number that is allowed
    std::unique_ptr<unsigned char[]> block_;
    std::vector<std::unique_ptr<unsigned char[]>> own_;
    std::vector<Memory> arrays_;
};

// Of a pair of functions the one for T.
template <class T, class F, class D> auto pick(F float32, D float64) {
    if constexpr (sizeof(T) == sizeof(float))
        return float32;
    else
        return float64;
}

template <class T> void one_array(Call& call, int rule) {
    const std::int64_t n = call.size(sizeof(T));
    T* const w = call.array<T>(n, true);
    const T* const g = call.array<T>(n, false);
    T* const a = rule == 0 ? nullptr : call.array<T>(n, true);
    T* const b = rule < 5 ? nullptr : call.array<T>(n, true);
    const double lr = call.magnitude(), eps = rule > 2 ? call.magnitude() : 0, decay = call.magnitude();
    const double beta = rule > 3 ? call.fraction() : 0, beta2 = rule > 4 ? call.fraction() : 0;
    const double momentum = rule == 1 || rule == 2 ? call.momentum() : 0;
    const std::int64_t t = rule > 4 ? call.step() : 0;
    call.run([&] {
        switch (rule) {
            case 0:
                return pick<T>(c_api.sgd_float32, c_api.sgd_float64)(n, w, g, lr, decay);
            case 1:
                return pick<T>(c_api.momentum_float32, c_api.momentum_float64)(n, w, g, a, lr, momentum, decay);
            case 2:
                return pick<T>(c_api.nesterov_float32, c_api.nesterov_float64)(n, w, g, a, lr, momentum, decay);
            case 3:
                return pick<T>(c_api.adagrad_float32, c_api.adagrad_float64)(n, w, g, a, lr, eps, decay);
            case 4:
                return pick<T>(c_api.rmsprop_float32, c_api.rmsprop_float64)(n, w, g, a, lr, beta, eps, decay);
            case 5:
                return pick<T>(c_api.adam_float32, c_api.adam_float64)(n, w, g, a, b, t, lr, beta, beta2, eps, decay);
            default:
                return pick<T>(c_api.adamw_float32, c_api.adamw_float64)(n, w, g, a, b, t, lr, beta, beta2, eps, decay);
        }
    });
}

template <class T> void many_arrays(Call& call) {
    struct Known {
        const char* name;
        int states, coefficients;
    };
    constexpr Known kKnown[] = {{"sgd", 0, 1},      {"momentum", 1, 2}, {"momentum_plain_velocity", 1, 2},
                                {"nesterov", 1, 4}, {"adagrad", 1, 3},  {"rmsprop", 1, 5},
                                {"adam", 2, 5},     {"adamw", 2, 6},    {"nesterov_new_velocity", 1, 4}};
    const Known& rule = kKnown[call.data.ConsumeIntegralInRange<std::size_t>(0, std::size(kKnown) - 1)];
    const bool unknown = call.rarely(32), no_sizes = call.rarely(64), no_state = call.rarely(64),
               no_coefficients = call.rarely(64);
    const std::string name = unknown ? "no " + call.data.ConsumeRandomLengthString(30) : rule.name;
    const auto count = static_cast<std::size_t>(call.data.ConsumeIntegralInRange(0, 5));
    call.refuse_if(unknown || no_coefficients || (count > 0 && (no_sizes || (no_state && rule.states > 0))));
    std::vector<std::int64_t> sizes;
    std::vector<T*> w, state;
    std::vector<const T*> g;
    for (std::size_t i = 0; i < count; ++i) {
        sizes.push_back(call.size(sizeof(T)));
        w.push_back(call.array<T>(sizes[i], true));
        g.push_back(call.array<T>(sizes[i], false));
        for (int k = 0; k < rule.states; ++k) state.push_back(call.array<T>(sizes[i], true));
    }
    double coefficients[FUSEDSTEP_COEFFICIENTS];
    for (double& c : coefficients) c = call.data.ConsumeFloatingPointInRange(-2.0, 2.0);
    if (call.rarely(8)) {
        coefficients[0] = call.data.ConsumeFloatingPoint<double>();
        call.refuse_if(!std::isfinite(coefficients[0]));
    }
    const double decay = call.magnitude();
    call.run([&] {
        return pick<T>(c_api.update_float32, c_api.update_float64)(
            name.c_str(), no_coefficients ? nullptr : coefficients, decay, static_cast<std::int64_t>(count),
            no_sizes ? nullptr : sizes.data(), w.data(), g.data(), no_state ? nullptr : state.data());
    });
}

void coefficients(Call& call, int rule) {
    double* const to = call.array<double>(FUSEDSTEP_COEFFICIENTS, true);
    const double lr = call.magnitude(), eps = rule > 2 ? call.magnitude() : 0, decay = rule > 5 ? call.magnitude() : 0;
    const double beta = rule > 3 ? call.fraction() : 0, beta2 = rule > 4 ? call.fraction() : 0;
    const double momentum = rule == 1 || rule == 2 ? call.momentum() : 0;
    const std::int64_t t = rule > 4 ? call.step() : 0;
    const int inside = call.data.ConsumeIntegral<int>();
    // A misaligned place is the caller's fault: these functions check for null alone.
    if (reinterpret_cast<std::uintptr_t>(to) % alignof(double) != 0) return;
    call.run([&] {
        switch (rule) {
            case 0:
                return c_api.sgd_coefficients(to, lr);
            case 1:
                return c_api.momentum_coefficients(to, lr, momentum);
            case 2:
                return c_api.nesterov_coefficients(to, lr, momentum);
            case 3:
                return c_api.adagrad_coefficients(to, lr, eps, inside);
            case 4:
                return c_api.rmsprop_coefficients(to, lr, beta, eps, inside);
            case 5:
                return c_api.adam_coefficients(to, t, lr, beta, beta2, eps, inside);
            default:
                return c_api.adamw_coefficients(to, t, lr, beta, beta2, eps, decay, inside);
        }
    });
}

template <class T> void batch_norm(Call& call, int function) {
    std::int64_t shape[3], elements = 1;
    for (std::int64_t& n : shape) elements *= n = call.data.ConsumeIntegralInRange(0, 20);
    if (call.rarely(16)) {
        shape[call.data.ConsumeIntegralInRange(0, 2)] = call.data.ConsumeIntegralInRange<std::int64_t>(INT64_MIN, -1);
        call.refuse_if(true);
    } else if (call.rarely(16) && elements > 0) {  // one past the address space
        shape[call.data.ConsumeIntegralInRange(0, 2)] = INT64_MAX / static_cast<std::int64_t>(sizeof(T)) + 1;
        call.refuse_if(true);
    }
    const std::int64_t outer = shape[0], channels = shape[1], inner = shape[2];
    call.refuse_if(function != 1 && channels > 0 && elements == 0);
    const T* const x = call.array<T>(elements, false);
    T* const dout = function == 2 ? call.array<T>(elements, false) : nullptr;
    T* const result = call.data.ConsumeBool() ? call.array<T>(elements, true)
                                              : call.same(function == 2 ? dout : const_cast<T*>(x), elements);
    const T* const gamma = call.array<T>(channels, false);
    const bool training = function == 0;
    if (function == 2) {
        const double *const mean = call.array<double>(channels, false), *const inv_std =
                                                                            call.array<double>(channels, false);
        T *const dgamma = call.array<T>(channels, true), *const dbeta = call.array<T>(channels, true);
        call.run([&] {
            return pick<T>(c_api.batch_norm_backward_float32, c_api.batch_norm_backward_float64)(
                outer, channels, inner, x, dout, result, gamma, mean, inv_std, dgamma, dbeta);
        });
        return;
    }
    const T* const beta = call.array<T>(channels, false);
    const double eps = call.magnitude();
    double *const mean = call.array<double>(channels, training), *const var = call.array<double>(channels, training);
    double* const inv_std = training ? call.array<double>(channels, true) : nullptr;
    call.run([&] {
        if (training)
            return pick<T>(c_api.batch_norm_float32, c_api.batch_norm_float64)(outer, channels, inner, x, result, gamma,
                                                                               beta, eps, mean, var, inv_std);
        return pick<T>(c_api.batch_norm_inference_float32, c_api.batch_norm_inference_float64)(
            outer, channels, inner, x, result, gamma, beta, mean, var, eps);
    });
}

template <class T> void dropout(Call& call) {
    const std::int64_t n = call.size(sizeof(T));
    T* const x = call.array<T>(n, false);
    T* const y = call.data.ConsumeBool() ? call.array<T>(n, true) : call.same(x, n);
    const double rate = call.fraction();
    const auto seed = call.data.ConsumeIntegral<std::uint64_t>(), number = call.data.ConsumeIntegral<std::uint64_t>();
    call.run([&] { return pick<T>(c_api.dropout_float32, c_api.dropout_float64)(n, x, y, rate, seed, number); });
}

void threads(Call& call) {
    const int n = call.rarely(4) ? call.data.ConsumeIntegral<int>() : call.data.ConsumeIntegralInRange(1, 3);
    call.refuse_if(n < 1 || n > 1024);
    call.run([&] { return c_api.set_num_threads(n); });
    check(c_api.error_message(n) != nullptr && c_api.get_num_threads() >= 1, "no message, or no thread");
    if (n > 3 && n <= 1024) c_api.set_num_threads(3);  // more would only take long
}

template <class T> void any(Call& call) {
    const int function = call.data.ConsumeIntegralInRange(0, 19);
    if (function < 7)
        one_array<T>(call, function);
    else if (function < 14)
        coefficients(call, function - 7);
    else if (function < 17)
        batch_norm<T>(call, function - 14);
    else if (function == 17)
        dropout<T>(call);
    else if (function == 18)
        many_arrays<T>(call);
    else
        threads(call);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* bytes, std::size_t size) {
    FuzzedDataProvider data(bytes, size);
    Call call(data);
    if (data.ConsumeBool())
        any<float>(call);
    else
        any<double>(call);
    return 0;
}
