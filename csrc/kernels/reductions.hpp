// Sums of squares: of a tile, in an order of additions that no vector width changes.
#pragma once

#include <cstdint>

#include "table.hpp"

// Without a name for the reason given in stages_around.hpp.
namespace {

// In double: element i adds to lane i mod 8, then lanes are added in pairs that are 4, 2 and 1 apart.
template <class T> double sum_of_squares(std::int64_t n, const void* given) {
    constexpr int kLanes = 8;
    const T* values = static_cast<const T*>(given);
    double lanes[kLanes] = {};
    std::int64_t i = 0;
    for (; i + kLanes <= n; i += kLanes)
        for (int lane = 0; lane < kLanes; ++lane) {
            const double value = static_cast<double>(values[i + lane]);
            lanes[lane] += value * value;
        }
    for (int lane = 0; i + lane < n; ++lane) {
        const double value = static_cast<double>(values[i + lane]);
        lanes[lane] += value * value;
    }
    for (int half = kLanes / 2; half > 0; half /= 2)
        for (int lane = 0; lane < half; ++lane) lanes[lane] += lanes[lane + half];
    return lanes[0];
}

template <class T> void add_squares(std::int64_t n, const void* given, double* sums) {
    const T* values = static_cast<const T*>(given);
    for (std::int64_t i = 0; i < n; ++i) {
        const double value = static_cast<double>(values[i]);
        sums[i] += value * value;
    }
}

}  // namespace
