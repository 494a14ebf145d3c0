// Elements of each storage type as numbers of the arithmetic's type, and back, rounded to nearest, ties to even.
// A NaN stays one. Nothing here depends on the caller's floating-point mode but the rounding of doubles to float.
#pragma once

#include <cstdint>
#include <cstring>

#include "table.hpp"
#include "vector.hpp"

#if defined(__F16C__) || (defined(__GNUC__) && defined(__x86_64__))
#include <immintrin.h>
#endif

// Without a name for the reason given in stages_around.hpp.
namespace {

using std::int64_t;
using std::uint16_t;
using std::uint32_t;

inline uint32_t bits_of(float value) {
    uint32_t bits;
    std::memcpy(&bits, &value, sizeof bits);
    return bits;
}

inline float float_of(uint32_t bits) {
    float value;
    std::memcpy(&value, &bits, sizeof value);
    return value;
}

// A selection by bits, which GCC vectorises where it takes a conditional expression apart.
inline uint32_t select(bool condition, uint32_t yes, uint32_t no) {
    const uint32_t mask = 0u - static_cast<uint32_t>(condition);
    return (yes & mask) | (no & ~mask);
}

// The upper half of a float.
struct BFloat16 {
    static float to_float(uint16_t bits) { return float_of(uint32_t{bits} << 16); }

    static uint16_t of_float(float value) {
        const uint32_t bits = bits_of(value), rounded = bits + 0x7fff + (bits >> 16 & 1);
        return static_cast<uint16_t>(select((bits & 0x7fffffff) > 0x7f800000, bits | 0x400000, rounded) >> 16);
    }
};

// IEEE 754 binary16.
struct Float16 {
    static float to_float(uint16_t bits) {
        const uint32_t magnitude = bits & 0x7fffu, sign = (bits & 0x8000u) << 16;
        const uint32_t subnormal = bits_of(static_cast<float>(magnitude) * 0x1p-24f);
        const uint32_t normal = (magnitude << 13) + ((127 - 15) << 23),
                       special = (magnitude << 13) + ((255 - 31) << 23);
        return float_of(sign | select(magnitude < 0x400, subnormal, select(magnitude < 0x7c00, normal, special)));
    }

    static uint16_t of_float(float value) {
        const uint32_t bits = bits_of(value), magnitude = bits & 0x7fffffff, sign = bits >> 16 & 0x8000;
        // Beside 0.5 a float's last digit is that of a subnormal half.
        const uint32_t subnormal = bits_of(float_of(magnitude) + 0.5f) - 0x3f000000;
        const uint32_t normal = (magnitude - ((127 - 15) << 23) + 0xfff + (magnitude >> 13 & 1)) >> 13;
        const uint32_t nan = 0x7e00 | (magnitude >> 13 & 0x3ff);
        const uint32_t large = select(magnitude > 0x7f800000, nan, 0x7c00);
        const uint32_t finite = select(magnitude < 0x38800000, subnormal, normal);
        return static_cast<uint16_t>(sign | select(magnitude >= 0x47800000, large, finite));
    }
};

template <class Type> float narrow_to_float(const char* from) {
    uint16_t bits;
    std::memcpy(&bits, from, sizeof bits);
    return Type::to_float(bits);
}

// A double as the float that rounds to the same half or bfloat16: what is cut off makes the last bit odd.
inline float to_odd(double value) {
    const float nearest = static_cast<float>(value);
    const double error = static_cast<double>(nearest) - value;
    if (error == 0 || error != error || (bits_of(nearest) & 1) != 0) return nearest;
    const bool above = (error > 0) == (bits_of(nearest) >> 31 == 0);  // in magnitude; nearest may be 0
    return float_of(bits_of(nearest) + (above ? -1u : 1u));
}

inline float to_odd(float value) {
    return value;
}

#if defined(__GNUC__) && defined(__x86_64__)

// The first elements of an array, as many as whole vectors hold; returns how many. Packing is what compilers do badly.
// What is packed are integers of 16 bits with a sign, which keeps their bits. A NaN, which rounding could turn into an
// infinity, ends it.
#ifdef __AVX2__
inline int64_t store_vectors(BFloat16, int64_t n, const float* from, char* to) {
    const auto upper_half = [](__m256 value) {
        const __m256i bits = _mm256_castps_si256(value);
        const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
        return _mm256_srai_epi32(_mm256_add_epi32(_mm256_add_epi32(bits, _mm256_set1_epi32(0x7fff)), odd), 16);
    };
    int64_t i = 0;
    for (; i + 16 <= n; i += 16) {
        const __m256 low = _mm256_loadu_ps(from + i), high = _mm256_loadu_ps(from + i + 8);
        if (_mm256_movemask_ps(_mm256_cmp_ps(low, high, _CMP_UNORD_Q)) != 0) break;
        const __m256i packed = _mm256_packs_epi32(upper_half(low), upper_half(high));
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(to + 2 * i), _mm256_permute4x64_epi64(packed, 0xd8));
    }
    return i;
}
#else
inline int64_t store_vectors(BFloat16, int64_t n, const float* from, char* to) {
    const auto upper_half = [](__m128 value) {
        const __m128i bits = _mm_castps_si128(value);
        const __m128i odd = _mm_and_si128(_mm_srli_epi32(bits, 16), _mm_set1_epi32(1));
        return _mm_srai_epi32(_mm_add_epi32(_mm_add_epi32(bits, _mm_set1_epi32(0x7fff)), odd), 16);
    };
    int64_t i = 0;
    for (; i + 8 <= n; i += 8) {
        const __m128 low = _mm_loadu_ps(from + i), high = _mm_loadu_ps(from + i + 4);
        if (_mm_movemask_ps(_mm_cmpunord_ps(low, high)) != 0) break;
        _mm_storeu_si128(reinterpret_cast<__m128i*>(to + 2 * i), _mm_packs_epi32(upper_half(low), upper_half(high)));
    }
    return i;
}
#endif

// FUSEDSTEP_NO_F16C: for emulators that don't do as processors do.
#if defined(__F16C__) && !defined(FUSEDSTEP_NO_F16C)
inline int64_t load_vectors(Float16, int64_t n, const char* from, float* to) {
    int64_t i = 0;
    for (; i + 8 <= n; i += 8)
        _mm256_storeu_ps(to + i, _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from + 2 * i))));
    return i;
}

inline int64_t store_vectors(Float16, int64_t n, const float* from, char* to) {
    int64_t i = 0;
    for (; i + 8 <= n; i += 8)
        _mm_storeu_si128(reinterpret_cast<__m128i*>(to + 2 * i),
                         _mm256_cvtps_ph(_mm256_loadu_ps(from + i), _MM_FROUND_TO_NEAREST_INT));
    return i;
}
#endif

#endif

// Where there is nothing better than what the compiler makes of the loop.
template <class Type, class From, class To> int64_t load_vectors(Type, int64_t, const From*, To*) {
    return 0;
}

template <class Type, class From, class To> int64_t store_vectors(Type, int64_t, const From*, To*) {
    return 0;
}

template <class Type, class T> void load_narrow(int64_t n, const void* given, void* result) {
    const char* from = static_cast<const char*>(given);
    T* to = static_cast<T*>(result);
    for (int64_t i = load_vectors(Type(), n, from, to); i < n; ++i) to[i] = narrow_to_float<Type>(from + 2 * i);
}

template <class Type, class T> void store_narrow(int64_t n, const void* given, void* result) {
    constexpr int64_t kBlock = 64;
    const T* from = static_cast<const T*>(given);
    char* to = static_cast<char*>(result);
    while (n > 0) {
        // Vectors, then a block one by one: behind a NaN, or at the end.
        const int64_t done = store_vectors(Type(), n, from, to), end = n < done + kBlock ? n : done + kBlock;
        for (int64_t i = done; i < end; ++i) {
            const uint16_t bits = Type::of_float(to_odd(from[i]));
            std::memcpy(to + 2 * i, &bits, sizeof bits);
        }
        from += end;
        to += 2 * end;
        n -= end;
    }
}

// Between float and double.
template <class From, class To> void convert(int64_t n, const void* given, void* result) {
    const char* from = static_cast<const char*>(given);
    char* to = static_cast<char*>(result);
    for (int64_t i = 0; i < n; ++i) {
        From value;
        std::memcpy(&value, from + i * int64_t{sizeof value}, sizeof value);
        const To converted = static_cast<To>(value);
        std::memcpy(to + i * int64_t{sizeof converted}, &converted, sizeof converted);
    }
}

template <class T> void copy(int64_t n, const void* from, void* to) {
    std::memcpy(to, from, static_cast<std::size_t>(n) * sizeof(T));
}

}  // namespace
