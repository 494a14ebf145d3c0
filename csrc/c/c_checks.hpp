// What the C interface checks of numbers and arrays, and how an error becomes a code.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <limits>
#include <new>
#include <vector>

#include "fusedstep.h"
#include "views.hpp"

namespace fusedstep {

// An error on its way to guarded().
struct Failure {
    int code;
};

inline void require(bool holds, int code) {
    if (!holds) throw Failure{code};
}

template <class Body> int guarded(const Body& body) noexcept {
    try {
        body();
        return FUSEDSTEP_OK;
    } catch (const Failure& failure) {
        return failure.code;
    } catch (const std::bad_alloc&) {
        return FUSEDSTEP_OUT_OF_MEMORY;
    } catch (...) {
        return FUSEDSTEP_INTERNAL_ERROR;
    }
}

// Numbers from 0 to the largest.
inline void require_finite(std::initializer_list<double> values) {
    for (const double value : values)
        require(value >= 0 && value <= std::numeric_limits<double>::max(), FUSEDSTEP_OUT_OF_RANGE);
}

inline void require_below_one(std::initializer_list<double> values) {
    for (const double value : values) require(value >= 0 && value < 1, FUSEDSTEP_OUT_OF_RANGE);
}

// Of sizes.
inline std::int64_t product(std::int64_t a, std::int64_t b) {
    require(a >= 0 && b >= 0 && (b == 0 || a <= std::numeric_limits<std::int64_t>::max() / b), FUSEDSTEP_BAD_SIZE);
    return a * b;
}

// The memory of n elements, which is there, aligned, and does not go past the end of the address space.
template <class T> Span span(const T* array, std::int64_t n, bool written) {
    const auto bytes = static_cast<std::uintptr_t>(product(n, sizeof(T)));
    if (n == 0) return {nullptr, nullptr, written};
    require(array != nullptr, FUSEDSTEP_NULL_POINTER);
    const auto address = reinterpret_cast<std::uintptr_t>(array);
    require(address % alignof(T) == 0, FUSEDSTEP_MISALIGNED);
    require(address <= std::numeric_limits<std::uintptr_t>::max() - bytes, FUSEDSTEP_BAD_SIZE);
    const char* const low = reinterpret_cast<const char*>(array);
    return {low, low + bytes, written};
}

inline void require_disjoint(const std::vector<Span>& spans) {
    require(!any_meet(spans), FUSEDSTEP_OVERLAP);
}

}  // namespace fusedstep
