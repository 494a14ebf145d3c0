// The geometry of arrays as NumPy describes them: order in memory, gaps, overlaps.
#pragma once

#include <cstdint>
#include <vector>

#include "table.hpp"

namespace fusedstep {

using Extent = std::intptr_t;  // which NumPy measures its arrays in
using Extents = std::vector<Extent>;

constexpr int kMaxDimensions = 64;  // NumPy's limit
constexpr int kNoStorage = -1;      // of elements that are stored in none of the ways that kernels can read

constexpr std::int64_t size_of(int storage) {
    constexpr std::int64_t sizes[kStorages] = {4, 8, 2, 2};
    return sizes[storage];
}

// What parameters of a storage type are computed in.
constexpr int arithmetic_of(int storage) {
    return storage == kFloat64 ? kFloat64 : kFloat32;
}

// An array that somebody else keeps alive.
struct View {
    char* data;
    int storage;
    int dimensions;
    const Extent* shape;
    const Extent* strides;    // in bytes
    bool contiguous = false;  // known to be row-major without gaps

    std::int64_t size() const {
        std::int64_t product = 1;
        for (int d = 0; d < dimensions; ++d) product *= shape[d];
        return product;
    }
};

inline bool same_shape(const View& a, const View& b) {
    if (a.dimensions != b.dimensions) return false;
    for (int d = 0; d < a.dimensions; ++d)
        if (a.shape[d] != b.shape[d]) return false;
    return true;
}

bool has_no_gaps(const View& view);

inline bool is_contiguous(const View& view) {
    return view.contiguous || has_no_gaps(view);
}

bool is_aligned(const View& view);  // every element to its size

// The bytes between an array's lowest and highest address.
struct Span {
    const char *low, *high;
    bool written;

    bool overlaps(const Span& other) const { return low < other.high && other.low < high; }

    bool operator==(const Span& other) const {
        return low == other.low && high == other.high && written == other.written;
    }
};

Span span_of(const View& view, std::int64_t item_size, bool written);

inline Span span_of(const View& view, bool written) {
    return span_of(view, size_of(view.storage), written);
}

// Whether a span that is written overlaps another.
bool any_overlap(std::vector<Span> spans);

// Whether an element of one array shares memory with an element of the other. An exact answer can take exponential
// time; after 65536 steps the answer is true.
bool share_memory(const View& a, const View& b);

// Whether two elements of one array share memory, found with the same bound.
bool overlaps_itself(const View& view);

// The axes from the slowest to the fastest in memory.
std::vector<int> memory_order(const View& view);

// Whether elements follow each other without gaps when axes of these lengths and strides are nested in this order.
bool is_dense(const Extents& shape, const Extents& strides, std::int64_t item_size);

// In bytes, of an array without gaps.
Extents row_major_strides(const Extents& shape, int storage);

// The elements of a list of extents in another order.
Extents permuted(const Extent* values, const std::vector<int>& order);

}  // namespace fusedstep
