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
                                             const double* beta, const double* mean, const double* var, double eps,
                                             const double* mean_rest = nullptr);

// The mean (mean + mean_rest), and the sum of squared deviations from it, of each channel of a part of the data.
template <class T>
void batch_norm_moments(const Layout& layout, const T* x, double eps, double* mean, double* mean_rest, double* m2);

// The sums of dout, and of dout (x - mean), of a part of the data.
template <class T>
void batch_norm_sums(const Layout& layout, const T* x, const T* dout, const double* mean, double* dots, double* sums);

// dx of a part of the data, all of which has `count` elements a channel.
template <class T> void batch_norm_gradient(const Layout& layout, const T* x, const T* dout, T* dx, const double* gamma,
                                            const double* mean, const double* inv_std, const double* dgamma,
                                            const double* dbeta, double count);

template <class T> void batch_norm_backward(const Layout& layout, const T* x, const T* dout, T* dx, const double* gamma,
                                            const double* mean, const double* inv_std, double* dgamma, double* dbeta);

}  // namespace fusedstep
