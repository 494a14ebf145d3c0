// Sums of squares: of a tile, in an order of additions that no vector width changes.
#pragma once

#include <cstdint>

// Without a name for the reason given in stages_around.hpp.
namespace {

constexpr int kSumLanes = 8;

// Lanes are added in pairs that are 4, 2 and 1 apart.
inline double sum_of_lanes(double* lanes) {
    for (int half = kSumLanes / 2; half > 0; half /= 2)
        for (int lane = 0; lane < half; ++lane) lanes[lane] += lanes[lane + half];
    return lanes[0];
}

// In double: element i adds to lane i mod 8.
template <class T> double sum_of_squares(std::int64_t n, const void* given) {
    const T* values = static_cast<const T*>(given);
    double lanes[kSumLanes] = {};
    std::int64_t i = 0;
    for (; i + kSumLanes <= n; i += kSumLanes)
        for (int lane = 0; lane < kSumLanes; ++lane) {
            const double value = static_cast<double>(values[i + lane]);
            lanes[lane] += value * value;
        }
    for (int lane = 0; i + lane < n; ++lane) {
        const double value = static_cast<double>(values[i + lane]);
        lanes[lane] += value * value;
    }
    return sum_of_lanes(lanes);
}

}  // namespace
