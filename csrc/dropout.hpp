// Dropout of an array, cut into tasks.
#pragma once

#include "kernels.hpp"

namespace fusedstep {

// y[i] = x[i] * (kept(i) ? scale : 0) for elements of type kFloat32 or kFloat64, contiguous; y may be x.
void dropout(const void* x, void* y, int type, std::int64_t size, const DropoutMask& mask);

}  // namespace fusedstep
