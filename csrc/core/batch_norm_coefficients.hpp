// What the kernels of batch normalisation are given for each channel, and which channels they can't be left.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <memory>

#include "batch_norm_formulas.hpp"
#include "table.hpp"

namespace fusedstep {

// From a row of n elements to the next. Rows of 4 KiB would map to the same cache sets, so they are padded; short ones
// less, because malloc is fastest for small buffers.
inline std::int64_t row_pitch(std::int64_t n) {
    return n + std::min<std::int64_t>(n, 80);
}

// n elements that are written before they are read.
template <class T> std::unique_ptr<T[]> uninitialized(std::int64_t n) {
    return std::unique_ptr<T[]>(new T[static_cast<std::size_t>(n)]);
}

// Rows of coefficients for the formulas of batch_norm.hpp, as many as Formula has, one element a channel.
template <class T, template <class> class Formula> class Coefficients {
  public:
    explicit Coefficients(const Layout& layout)
        : pitch(row_pitch(layout.channels)), values_(uninitialized<T>(pitch * Formula<T>::coefficients)) {}

    T* of(std::int64_t channel) const { return values_.get() + channel; }

    // mean + mean_rest is the mean.
    template <class... Rest> void set(std::int64_t channel, double mean, double mean_rest, Rest... rest) const {
        T* to = of(channel);
        const T head = static_cast<T>(mean);
        *to = head;
        *(to += pitch) = static_cast<T>((mean - head) + mean_rest);
        ((*(to += pitch) = static_cast<T>(rest)), ...);
    }

    const std::int64_t pitch;

  private:
    std::unique_ptr<T[]> values_;
};

// What the kernels' arithmetic in T is good for. least: flushing to zero changes it by u / 16 at most. most: adding it
// changes the largest numbers little. offset_squares: see has_near_base.
template <class T> struct Limits;
template <> struct Limits<float> {
    static constexpr double least = 0x1p-99, most = 0x1p100, offset_squares = 0x1p60;
};
template <> struct Limits<double> {
    static constexpr double least = 0x1p-966, most = 0x1p968, offset_squares = 20;
};

template <class T> bool is_normal(double value) {
    return (std::abs(value) >= std::numeric_limits<T>::min()) & (std::abs(value) <= std::numeric_limits<T>::max());
}

// Whether y can be computed with these coefficients in T. `&`: for vectors.
template <class T> bool fits(double scale, double gamma, double beta, double variance) {
    return (is_normal<T>(scale) | (gamma == 0)) & (variance >= Limits<T>::least) &
           (variance <= std::numeric_limits<double>::max()) & (std::abs(gamma) <= Limits<T>::most) &
           (std::abs(beta) <= Limits<T>::most);
}

// Whether the first elements were near enough to the rest. If they were not, roundings of offsets change the mean by
// about u times the deviation, or some block's squares were taken about a pivot so far away that the sum of squared
// deviations has digits of the largest only (5 u of `cancelled`, if all round one way).
template <class T> bool has_near_base(const MomentArrays& moments, std::int64_t at, double variance, double count) {
    return (moments.offset_squares[at] <= Limits<T>::offset_squares * variance) &
           (moments.cancelled[at] <= 0.7 * count * variance);
}

// When dx, dgamma and dbeta can be computed in T. With tiny sums only if dout is zero, because products that are
// flushed to zero matter beside them.
enum class Fit { kNever, kIfZero, kAlways };
template <class T> Fit gradient_fit(double gamma, double inv_std, double dbeta, double dgamma, double count) {
    constexpr double least = Limits<T>::least, most = Limits<T>::most;
    const double slope = std::abs(dgamma * inv_std), dgamma_size = std::abs(dgamma), dbeta_size = std::abs(dbeta);
    const bool outweighs =
        (dbeta_size + dgamma_size >= least * count) & (dbeta_size + dgamma_size >= least * count * inv_std);
    const bool scale_fits = (is_normal<T>(gamma * inv_std) | (gamma == 0)) & (inv_std * least <= 1);
    const bool sums_fit = (dbeta_size <= most * count) & (dgamma_size <= most * count);
    const bool slope_fits = (dgamma == 0) | ((slope >= least * count) & (slope <= most * count));
    if (!scale_fits || !sums_fit || !slope_fits) return Fit::kNever;
    return outweighs ? Fit::kAlways : Fit::kIfZero;
}

// Whether gradient_fit is kAlways, by a sufficient test that is cheap. `&`: for vectors.
inline bool is_ordinary(double gamma, double inv_std, double dbeta, double dgamma) {
    return (std::abs(dgamma) > 1e-8) & (std::abs(dgamma) + std::abs(dbeta) < 1e20) & (inv_std > 1e-6) &
           (inv_std < 1e10) & (std::abs(gamma) > 1e-6) & (std::abs(gamma) < 1e10);
}

}  // namespace fusedstep
