// The geometry of arrays as NumPy describes them: order in memory, gaps, overlaps.
#pragma once

#include <cstdint>
#include <vector>

namespace fusedstep {

using Extents = std::vector<std::int64_t>;

struct View {
    char* data;
    int type;                      // how elements are stored, see strided.hpp
    std::int64_t item_size, size;  // in bytes, in elements
    bool aligned;
    Extents shape, strides;  // strides in bytes
};

// The bytes between an array's lowest and highest address.
struct Span {
    const char *low, *high;
    bool written;

    bool meets(const Span& other) const { return low < other.high && other.low < high; }
};

Span span_of(const View& view, bool written);

// Whether a span that is written meets another.
bool any_meet(std::vector<Span> spans);

// The axes from the slowest to the fastest in memory.
std::vector<int> memory_order(const View& view);

// Whether elements follow each other without gaps when axes of these lengths and strides are nested in this order.
bool is_dense(const Extents& shape, const Extents& strides, std::int64_t item_size);

// Whether two elements share memory.
bool overlaps_itself(const View& view);

// The elements of a vector in another order.
Extents permuted(const Extents& values, const std::vector<int>& order);

}  // namespace fusedstep
