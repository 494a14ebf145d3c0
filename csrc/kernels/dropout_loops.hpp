// Dropout: a generator that makes a block of random words from its number alone, and the loop that multiplies.
#pragma once

#include "table.hpp"
#include "vector.hpp"

// Without a name for the reason given in stages_around.hpp.
namespace {

using fusedstep::DropoutMask;
using fusedstep::kDropoutElements;

constexpr int kCounters = 8;       // counters that are worked on side by side
constexpr int64_t kFactors = 512;  // elements whose factors are made before they are used
constexpr int kThreefryRounds = 13;

inline uint32_t rotated(uint32_t word, int by) {
    return word << by | word >> (32 - by);
}

// Threefry-4x32 (Salmon, Moraes, Dror & Shaw 2011, "Parallel random numbers: as easy as 1, 2, 3"): words[0 ... 7] are
// the first word of each of the group's counters, words[8 ... 15] the second ... A counter ends in two words that the
// caller chooses.
inline void random_words(uint64_t seed, uint64_t call, uint64_t group, uint32_t third, uint32_t fourth,
                         uint32_t* __restrict words) {
    constexpr int rotations[8][2] = {{10, 26}, {11, 21}, {13, 27}, {23, 5}, {6, 20}, {17, 11}, {25, 10}, {18, 20}};
    const auto low = [](uint64_t value) { return static_cast<uint32_t>(value); };
    const auto high = [](uint64_t value) { return static_cast<uint32_t>(value >> 32); };
    uint32_t key[5] = {low(seed), high(seed), low(call), high(call), 0x1BD11BDAu};
    for (int k = 0; k < 4; ++k) key[4] ^= key[k];
    for (int lane = 0; lane < kCounters; ++lane) {
        const uint64_t counter = group * kCounters + static_cast<uint64_t>(lane);
        uint32_t a = low(counter) + key[0], b = high(counter) + key[1], c = third + key[2], d = fourth + key[3];
#pragma GCC unroll 16
        for (int round = 0; round < kThreefryRounds; ++round) {
            const int* by = rotations[round % 8];
            uint32_t &first = round % 2 == 0 ? b : d, &second = round % 2 == 0 ? d : b;
            a += first;
            first = rotated(first, by[0]) ^ a;
            c += second;
            second = rotated(second, by[1]) ^ c;
            if (round % 4 == 3) {
                const int k = round / 4 + 1;
                a += key[k % 5];
                b += key[(k + 1) % 5];
                c += key[(k + 2) % 5];
                d += key[(k + 3) % 5] + static_cast<uint32_t>(k);
            }
        }
        words[lane] = a;
        words[kCounters + lane] = b;
        words[2 * kCounters + lane] = c;
        words[3 * kCounters + lane] = d;
    }
}

// The factor of each of a group's elements. An element has 32 random bits and is kept if they are not below the
// threshold. The first 16 decide but for one element in 65 536, so the other 16 are made only where there is such a
// one.
template <class T> void group_factors(const DropoutMask& mask, uint64_t group, T* __restrict factors) {
    constexpr int half = kDropoutElements / 2;  // two elements share a word
    const auto first = static_cast<int32_t>(mask.threshold >> 16),
               second = static_cast<int32_t>(mask.threshold & 0xffff);
    const T scale = static_cast<T>(mask.scale);
    uint32_t words[half];
    random_words(mask.seed, mask.call, group, 0, 0, words);
    for (int i = 0; i < half; ++i) {
        factors[i] = static_cast<int32_t>(words[i] & 0xffff) >= first ? scale : T(0);
        factors[half + i] = static_cast<int32_t>(words[i] >> 16) >= first ? scale : T(0);
    }
    uint16_t halves[kDropoutElements];
    std::memcpy(halves, words, sizeof halves);
    uint16_t undecided = 0;
    for (const uint16_t bits : halves) undecided |= bits == static_cast<uint16_t>(first);
    if (undecided == 0 || second == 0) return;
    uint32_t more[half];
    random_words(mask.seed, mask.call, group, 1, 0, more);
    for (int i = 0; i < kDropoutElements; ++i) {
        const int shift = i < half ? 0 : 16;
        const auto bits = static_cast<int32_t>(words[i % half] >> shift & 0xffff);
        const auto rest = static_cast<int32_t>(more[i % half] >> shift & 0xffff);
        if (bits == first && rest < second) factors[i] = T(0);
    }
}

template <class T>
void dropout(const void* x_given, void* y_given, int64_t first, int64_t n, const DropoutMask& mask, bool nontemporal) {
    const T* x = static_cast<const T*>(x_given);
    T* y = static_cast<T*>(y_given);
    T factors[kFactors];
    for (int64_t begin = 0; begin < n; begin += kFactors, x += kFactors, y += kFactors) {
        const int64_t count = n - begin < kFactors ? n - begin : kFactors;
        const uint64_t group = static_cast<uint64_t>(first + begin) / kDropoutElements;
        // While factors are made, which takes about as long as the memory does to answer.
        if (nontemporal && n - begin >= 3 * kFactors) prefetch(x + 2 * kFactors, kFactors);
        for (int64_t i = 0; i < count; i += kDropoutElements)
            group_factors(mask, group + static_cast<uint64_t>(i / kDropoutElements), factors + i);
        const auto product = [&](int64_t i, auto zero) {
            using V = decltype(zero);
            return static_cast<V>(elements<V>(x + i) * elements<V>(factors + i));
        };
        if (nontemporal)
            stream_each(y, 0, count, product);
        else
            for (int64_t i = 0; i < count; ++i) y[i] = product(i, T());
    }
    if (nontemporal) order_streamed_stores();
}

}  // namespace
