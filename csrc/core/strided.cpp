#include "strided.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "table.hpp"

namespace fusedstep {
namespace {

constexpr int kMaxDimensions = 64;  // NumPy's limit

// Calls f(address, length) for each piece of elements begin to begin + n that lies along the last dimension.
template <class F>
void over_rows(const Extents& shape, const StridedArray& array, std::int64_t begin, std::int64_t n, F f) {
    const std::size_t last = shape.size() - 1;
    std::int64_t index[kMaxDimensions];
    char* address = array.data;
    std::int64_t rest = begin;
    for (std::size_t d = shape.size(); d-- > 0; rest /= shape[d]) {
        index[d] = rest % shape[d];
        address += index[d] * array.strides[d];
    }
    while (n > 0) {
        const std::int64_t length = std::min(n, shape[last] - index[last]);
        f(address, length);
        n -= length;
        index[last] += length;
        address += length * array.strides[last];
        for (std::size_t d = last; d > 0 && index[d] == shape[d]; --d) {
            address += array.strides[d - 1] - shape[d] * array.strides[d];
            index[d] = 0;
            ++index[d - 1];
        }
    }
}

// IEEE 754 binary16.
struct Half {
    std::uint16_t bits;

    operator float() const {
        const std::uint32_t magnitude = bits & 0x7fff;
        float value = static_cast<float>(magnitude) * 0x1p-24f;  // below 0x400, where subnormal
        if (magnitude >= 0x400) {
            const std::uint32_t rebiased = (magnitude << 13) + ((magnitude < 0x7c00 ? 127 - 15 : 255 - 31) << 23);
            std::memcpy(&value, &rebiased, sizeof value);
        }
        return std::copysign(value, (bits & 0x8000) != 0 ? -1.0f : 1.0f);
    }
};

// memcpy, because an element need not be aligned.
template <class From, bool swapped> From element(const char* at) {
    From value;
    char bytes[sizeof value];
    std::memcpy(bytes, at, sizeof value);
    if (swapped) std::reverse(bytes, bytes + sizeof value);
    std::memcpy(&value, bytes, sizeof value);
    return value;
}

template <class From, bool swapped, class To>
void gather_as(const Extents& shape, const StridedArray& array, std::int64_t begin, std::int64_t n, void* out) {
    To* to = static_cast<To*>(out);
    over_rows(shape, array, begin, n, [&, stride = array.strides.back()](const char* from, std::int64_t length) {
        for (std::int64_t i = 0; i < length; ++i) to[i] = static_cast<To>(element<From, swapped>(from + i * stride));
        to += length;
    });
}

template <class T>
void scatter_as(const Extents& shape, const StridedArray& array, std::int64_t begin, std::int64_t n, const void* in) {
    const T* from = static_cast<const T*>(in);
    over_rows(shape, array, begin, n, [&, stride = array.strides.back()](char* to, std::int64_t length) {
        for (std::int64_t i = 0; i < length; ++i) std::memcpy(to + i * stride, from + i, sizeof(T));
        from += length;
    });
}

using Gather = void (*)(const Extents& shape, const StridedArray& array, std::int64_t begin, std::int64_t n, void* out);

// By how elements are stored.
template <class To> constexpr Gather kGathers[kStoredTypes] = {
    gather_as<float, false, To>,       gather_as<double, false, To>,     gather_as<Half, false, To>,
    gather_as<long double, false, To>, gather_as<float, true, To>,       gather_as<double, true, To>,
    gather_as<Half, true, To>,         gather_as<long double, true, To>,
};

}  // namespace

void gather(const Extents& shape, const StridedArray& array, std::int64_t begin, std::int64_t n, int type, void* out) {
    (type == kFloat32 ? kGathers<float> : kGathers<double>)[array.type](shape, array, begin, n, out);
}

void scatter(const Extents& shape, const StridedArray& array, std::int64_t begin, std::int64_t n, const void* in) {
    (array.type == kFloat32 ? scatter_as<float> : scatter_as<double>)(shape, array, begin, n, in);
}

}  // namespace fusedstep
