// Batch normalisation of a whole array: its division into tiles, and the order in which their statistics are merged.
#pragma once

#include <cstdint>

namespace fusedstep {

// How an array without gaps divides by channel: x[outer][channels][inner].
struct Layout {
    std::int64_t outer, channels, inner;

    std::int64_t count() const { return outer * inner; }  // elements of a channel
    std::int64_t size() const { return count() * channels; }
};

// T is float or double. y and dx may be the same memory as x or dout, element for element; all else is disjoint. The
// statistics and parameters hold a double for each channel. Layout::count() must not be 0 except for inference.
template <class T> void batch_norm_training(const Layout& layout, const T* x, T* y, const double* gamma,
                                            const double* beta, double eps, double* mean, double* var, double* inv_std);

template <class T> void batch_norm_inference(const Layout& layout, const T* x, T* y, const double* gamma,
                                             const double* beta, const double* mean, const double* var, double eps);

template <class T> void batch_norm_backward(const Layout& layout, const T* x, const T* dout, T* dx, const double* gamma,
                                            const double* mean, const double* inv_std, double* dgamma, double* dbeta);

}  // namespace fusedstep
