// Hashes, and the numbers that they are taken of, which are the same on every processor.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <functional>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "parallel.hpp"

namespace {

using std::int64_t;

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
std::string details;                               // the group whose cases are printed
std::vector<std::pair<std::string, Hash>> groups;  // in the order in which they come

void print(const std::string& group, const std::string& name, const std::function<void(Hash&)>& compute) {
    std::uint64_t first = 0;
    for (int threads = 1; threads <= 3; ++threads) {
        fusedstep::set_num_threads(threads);
        Hash hash;
        compute(hash);
        if (threads == 1) first = hash.value();
        if (hash.value() == first) continue;
        std::fprintf(stderr, "%s %s: %d threads have other bits than one\n", group.c_str(), name.c_str(), threads);
        failed = true;
    }
    if (groups.empty() || groups.back().first != group) groups.emplace_back(group, Hash());
    groups.back().second.add(static_cast<std::uint32_t>(first));
    groups.back().second.add(static_cast<std::uint32_t>(first >> 32));
    if (details == group || details == "all")
        std::printf("%016llx  %s %s\n", static_cast<unsigned long long>(first), group.c_str(), name.c_str());
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

}  // namespace
