// Stochastic rounding to the narrow storage types. A NaN stays one, infinities stay, and no finite number becomes one
// that is below the next power of two.
#pragma once

#include <cstring>

#include "convert.hpp"
#include "dropout_loops.hpp"

// Without a name for the reason given in stages_around.hpp.
namespace {

using fusedstep::Randomness;

// random is below 2^16. A carry out of the 16 bits that are cut off rounds up.
inline uint16_t rounded_randomly(BFloat16, float value, uint32_t random) {
    const uint32_t bits = bits_of(value), magnitude = bits & 0x7fffffff;
    const uint32_t up = (magnitude + random) >> 16;
    const uint32_t finite = up - static_cast<uint32_t>(up == 0x7f80);
    const uint32_t special = (magnitude | select(magnitude > 0x7f800000, 0x400000, 0)) >> 16;
    return static_cast<uint16_t>((bits >> 16 & 0x8000) | select(magnitude < 0x7f800000, finite, special));
}

inline uint16_t rounded_randomly(Float16, float value, uint32_t random) {
    const uint32_t bits = bits_of(value), magnitude = bits & 0x7fffffff;
    if (magnitude >= 0x47800000) return Float16::of_float(value);
    // In units of the half's last digit, 2^-24 or more, with 16 digits behind the point.
    const bool normal = magnitude >= 0x38800000;
    const uint32_t exponent = magnitude >> 23;
    const uint64_t digits = uint64_t{normal ? magnitude - ((127 - 15) << 23) : (magnitude & 0x7fffff) | 0x800000} << 16;
    const uint32_t shift = normal ? 13 : 126 - exponent;
    const auto up = static_cast<uint32_t>(shift < 64 ? ((digits >> shift) + random) >> 16 : 0);
    return static_cast<uint16_t>((bits >> 16 & 0x8000) | (up - static_cast<uint32_t>(up == 0x7c00)));
}

template <class Type, class T>
void store_randomly(int64_t first, int64_t n, const void* given, void* result, const Randomness& randomness) {
    const T* from = static_cast<const T*>(given);
    char* to = static_cast<char*>(result);
    for (int64_t begin = 0; begin < n; begin += kDropoutElements, from += kDropoutElements) {
        constexpr int half = kDropoutElements / 2;
        uint32_t words[half], random[kDropoutElements];
        random_words(randomness.seed, randomness.update, static_cast<uint64_t>((first + begin) / kDropoutElements),
                     randomness.array, randomness.slot, words);
        for (int i = 0; i < half; ++i) {
            random[i] = words[i] & 0xffff;
            random[half + i] = words[i] >> 16;
        }
        const int64_t count = n - begin < kDropoutElements ? n - begin : kDropoutElements;
        uint16_t rounded[kDropoutElements];
        for (int64_t i = 0; i < count; ++i)
            rounded[i] = rounded_randomly(Type(), static_cast<float>(from[i]), random[i]);
        std::memcpy(to + 2 * begin, rounded, static_cast<std::size_t>(2 * count));
    }
}

}  // namespace
