// How the arrays of an update are placed in memory.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "arrays.hpp"
#include "hashing.hpp"

namespace {

template <class T> constexpr int kType = sizeof(T) == sizeof(float) ? fusedstep::kFloat32 : fusedstep::kFloat64;

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

    fusedstep::View view() const { return {start_, storage_, 1, &shape_, &stride_}; }

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
    fusedstep::Extent shape_ = 0, stride_ = 0;
    int storage_ = 0;
};

}  // namespace
