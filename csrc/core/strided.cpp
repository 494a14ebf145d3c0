#include "strided.hpp"

#include <algorithm>
#include <cstring>

#include "dispatch.hpp"
#include "float_mode.hpp"

namespace fusedstep {
namespace {

// Calls f(address, length) for each piece of elements begin to begin + n that is along the last dimension.
template <class Byte, class F>
void over_rows(const Extents& shape, const Extents& strides, Byte* address, std::int64_t begin, std::int64_t n, F f) {
    const std::size_t last = shape.size() - 1;
    Extent index[kMaxDimensions];
    std::int64_t rest = begin;
    for (std::size_t d = shape.size(); d-- > 0; rest /= shape[d]) {
        index[d] = static_cast<Extent>(rest % shape[d]);
        address += index[d] * strides[d];
    }
    while (n > 0) {
        const auto length = static_cast<Extent>(std::min<std::int64_t>(n, shape[last] - index[last]));
        f(address, length);
        n -= length;
        index[last] += length;
        address += length * strides[last];
        for (std::size_t d = last; d > 0 && index[d] == shape[d]; --d) {
            address += strides[d - 1] - shape[d] * strides[d];
            index[d] = 0;
            ++index[d - 1];
        }
    }
}

// Elements that need not be aligned.
template <int size> void copy(Extent n, const char* from, Extent from_stride, char* to, Extent to_stride) {
    if (from_stride == 0 && to_stride == size) {  // one element, over and over
        char element[size];
        std::memcpy(element, from, size);
        for (Extent i = 0; i < n; ++i) std::memcpy(to + i * size, element, size);
        return;
    }
    for (Extent i = 0; i < n; ++i) std::memcpy(to + i * to_stride, from + i * from_stride, size);
}

using Copy = void (*)(Extent n, const char* from, Extent from_stride, char* to, Extent to_stride);
constexpr Copy kCopies[kStorages] = {copy<4>, copy<8>, copy<2>, copy<2>};

}  // namespace

void gather(const Extents& shape, const Extents& strides, const char* data, int storage, std::int64_t begin,
            std::int64_t n, int arithmetic, void* to) {
    const Convert load = table().load[storage][arithmetic];
    const Extent item_size = size_of(storage), stride = strides.back();
    char* row = static_cast<char*>(to);
    over_rows(shape, strides, data, begin, n, [&](const char* from, Extent length) {
        alignas(64) char packed[kTile * sizeof(double)];
        char* const contiguous = storage == arithmetic ? row : packed;
        if (stride != item_size) kCopies[storage](length, from, stride, contiguous, item_size);
        if (stride == item_size || contiguous != row) load(length, stride == item_size ? from : contiguous, row);
        row += length * size_of(arithmetic);
    });
}

void scatter(const Extents& shape, const Extents& strides, char* data, int storage, std::int64_t begin, std::int64_t n,
             int arithmetic, const void* from) {
    const Convert store = table().store[storage][arithmetic];
    const Extent item_size = size_of(storage), stride = strides.back();
    const char* row = static_cast<const char*>(from);
    over_rows(shape, strides, data, begin, n, [&](char* to, Extent length) {
        alignas(64) char packed[kTile * sizeof(double)];
        const char* const contiguous = storage == arithmetic ? row : packed;
        if (stride == item_size || contiguous != row) store(length, row, stride == item_size ? to : packed);
        if (stride != item_size) kCopies[storage](length, contiguous, item_size, to, stride);
        row += length * size_of(arithmetic);
    });
}

void pack(const View& view, int arithmetic, void* to) {
    const FloatMode mode;
    const std::vector<int> order = memory_order(view);
    Extents shape = permuted(view.shape, order), strides = permuted(view.strides, order);
    if (shape.empty()) shape = strides = {1};
    char* row = static_cast<char*>(to);
    for (std::int64_t begin = 0, size = view.size(); begin < size; begin += kTile, row += kTile * size_of(arithmetic))
        gather(shape, strides, view.data, view.storage, begin, std::min(kTile, size - begin), arithmetic, row);
}

}  // namespace fusedstep
