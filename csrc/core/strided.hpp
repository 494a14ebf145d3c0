// Arrays with any strides and alignment, copied part by part to and from contiguous rows.
#pragma once

#include "arrays.hpp"

namespace fusedstep {

// Elements begin to begin + n of an array, in row-major order, as numbers of the arithmetic's type; n is at most kTile.
void gather(const Extents& shape, const Extents& strides, const char* data, int storage, std::int64_t begin,
            std::int64_t n, int arithmetic, void* to);

// The reverse.
void scatter(const Extents& shape, const Extents& strides, char* data, int storage, std::int64_t begin, std::int64_t n,
             int arithmetic, const void* from);

// All elements of an array, in its order in memory, without gaps.
void pack(const View& view, int arithmetic, void* to);

}  // namespace fusedstep
