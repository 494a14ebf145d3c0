// Arrays with any strides and alignment, copied part by part to and from contiguous scratch.
#pragma once

#include "views.hpp"

namespace fusedstep {

// How elements may be stored besides kFloat32 and kFloat64. kSwapped is added where their bytes are in the other order.
enum { kHalf = 2, kLongDouble = 3, kSwapped = 4, kStoredTypes = 8 };

struct StridedArray {
    char* data;
    int type;
    Extents strides;  // in bytes; empty where the array can be used as it is: contiguous, aligned, of the right type
};

// Elements begin to begin + n of an array of this shape, in row-major order, rounded to `type`.
void gather(const Extents& shape, const StridedArray& array, std::int64_t begin, std::int64_t n, int type, void* out);

// The reverse, for an array of the type of `in`.
void scatter(const Extents& shape, const StridedArray& array, std::int64_t begin, std::int64_t n, const void* in);

}  // namespace fusedstep
