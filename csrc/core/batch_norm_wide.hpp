// Batch normalisation of a channel whose numbers leave the range, or the accuracy, of the kernels: in double, scaled by
// powers of two, in more passes.
#pragma once

#include <cstdint>
#include <memory>

#include "batch_norm.hpp"

namespace fusedstep {

// A factor that may be outside double's range, as may all but the last product.
struct WideFactor {
    double mantissa, half, other_half;  // halves: powers of two

    double operator()(double v) const { return v * half * mantissa * other_half; }
};

// y = gamma (x - mean) / sqrt(var + eps) + beta
struct WideNormalize {
    double scale, mean, mean_rest;  // these two scaled
    WideFactor factor;
    double shift, unit;

    double operator()(double x) const { return (factor((x * scale - mean) - mean_rest) + shift) * unit; }
};

// dx = gamma inv_std (dout - mean(dout) - xhat mean(dout xhat))
struct WideGradient {
    double scale, mean, inv_std, dout_scale, offset, slope;  // all scaled
    WideFactor factor;

    double operator()(double x, double dout) const {
        return factor((dout * dout_scale - offset) - (x * scale - mean) * inv_std * slope);
    }
};

// All of these keep subnormal numbers. They return null, and change nothing, where an argument isn't finite or all
// elements are equal: the kernels' results are right then.
template <class T> std::unique_ptr<WideNormalize> wide_training(const Layout& layout, std::int64_t channel, const T* x,
                                                                double gamma, double beta, double eps, double& mean,
                                                                double& var, double& inv_std);

std::unique_ptr<WideNormalize> wide_inference(double gamma, double beta, double mean, double var, double eps);

template <class T> std::unique_ptr<WideGradient> wide_backward(const Layout& layout, std::int64_t channel, const T* x,
                                                               const T* dout, double gamma, double mean, double inv_std,
                                                               double& dgamma, double& dbeta);

// Whether the first elements of a channel, or all if it is short, are zero.
template <class T> bool begins_with_zeros(const Layout& layout, std::int64_t channel, const T* x);

}  // namespace fusedstep
