// Dropout of an array, cut into tasks.
#pragma once

#include "table.hpp"

namespace fusedstep {

// rate: the part to drop, from 0 to below 1; above 1 - 2^-16 it is rounded to a multiple of 2^-32, 1 - 2^-32 at most.
DropoutMask dropout_mask(double rate, std::uint64_t seed, std::uint64_t call);

// y[i] = x[i] * (kept(i) ? scale : 0) for elements of type kFloat32 or kFloat64, contiguous; y may be x.
void dropout(const void* x, void* y, int type, std::int64_t size, const DropoutMask& mask);

}  // namespace fusedstep
