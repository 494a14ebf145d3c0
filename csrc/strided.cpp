#include "strided.hpp"

#include <algorithm>
#include <cstring>

#include "kernels.hpp"

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

// memcpy, because an element need not be aligned.
template <class From, class To>
void gather_as(const Extents& shape, const StridedArray& array, std::int64_t begin, std::int64_t n, void* out) {
    To* to = static_cast<To*>(out);
    over_rows(shape, array, begin, n, [&, stride = array.strides.back()](const char* from, std::int64_t length) {
        for (std::int64_t i = 0; i < length; ++i) {
            From value;
            std::memcpy(&value, from + i * stride, sizeof value);
            to[i] = static_cast<To>(value);
        }
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

}  // namespace

void gather(const Extents& shape, const StridedArray& array, std::int64_t begin, std::int64_t n, int type, void* out) {
    constexpr decltype(&gather_as<float, float>) functions[2][2] = {
        {gather_as<float, float>, gather_as<float, double>}, {gather_as<double, float>, gather_as<double, double>}};
    functions[array.type][type](shape, array, begin, n, out);
}

void scatter(const Extents& shape, const StridedArray& array, std::int64_t begin, std::int64_t n, const void* in) {
    (array.type == kFloat32 ? scatter_as<float> : scatter_as<double>)(shape, array, begin, n, in);
}

}  // namespace fusedstep
