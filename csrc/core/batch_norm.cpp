#include "batch_norm.hpp"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <limits>
#include <memory>
#include <mutex>
#include <vector>

#include "batch_norm_formulas.hpp"
#include "batch_norm_tiling.hpp"
#include "batch_norm_wide.hpp"
#include "compensated.hpp"
#include "float_mode.hpp"

namespace fusedstep {
namespace {

// From a row of n elements to the next. Rows of 4 KiB would map to the same cache sets, so they are padded; short ones
// less, because malloc is fastest for small buffers.
std::int64_t row_pitch(std::int64_t n) {
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
bool is_ordinary(double gamma, double inv_std, double dbeta, double dgamma) {
    return (std::abs(dgamma) > 1e-8) & (std::abs(dgamma) + std::abs(dbeta) < 1e20) & (inv_std > 1e-6) &
           (inv_std < 1e10) & (std::abs(gamma) > 1e-6) & (std::abs(gamma) < 1e10);
}

// The channels that are not left to the kernels, each with its formula.
template <class Formula> class WideChannels {
  public:
    explicit WideChannels(std::int64_t channels) : channels_(channels) {}

    void set(std::int64_t channel, std::unique_ptr<Formula> formula) {
        if (!formula) return;
        std::call_once(allocated_, [&] { formulas_.resize(static_cast<std::size_t>(channels_)); });
        formulas_[static_cast<std::size_t>(channel)] = std::move(formula);
        any_.store(true, std::memory_order_relaxed);
    }

    // Calls kernel(first, tile) for parts of a tile, whose first channel is `first`, and write(offset, formula) for the
    // elements of other channels, offset counting from the first element of the tile's first channel.
    template <class Kernel, class Write>
    void run(std::int64_t first, Tile tile, const Kernel& kernel, const Write& write) const {
        if (!any_.load(std::memory_order_relaxed)) return kernel(first, tile);
        for (std::int64_t begin = 0, end = 0, channels = tile.channels; begin < channels; begin = end) {
            const Formula* formula = at(first + begin);
            for (end = begin + 1; !formula && end < channels && !at(first + end);) ++end;
            tile.channels = end - begin;
            if (!formula) {
                kernel(first + begin, tile);
                continue;
            }
            const FloatMode mode(false);
            for (std::int64_t i = tile.begin; i < tile.end; ++i)
                write(begin + i / tile.run * tile.stride + i % tile.run, *formula);
        }
    }

  private:
    const Formula* at(std::int64_t channel) const { return formulas_[static_cast<std::size_t>(channel)].get(); }

    std::int64_t channels_;
    std::once_flag allocated_;
    std::vector<std::unique_ptr<Formula>> formulas_;  // empty until one is set
    std::atomic<bool> any_{false};
};

// A result, flushed to zero as the kernels' are.
template <class T> T rounded(double value, double least) {
    return std::abs(value) < least ? T{0} : static_cast<T>(value);
}
template <class T> double least_result() {
    return flush_subnormals.load(std::memory_order_relaxed) ? double{std::numeric_limits<T>::min()} : 0;
}

// Writes y in a tile of a group.
template <class T> auto normalizing(const Tiling<T>& tiling, const T* x, T* y,
                                    const Coefficients<T, Normalize>& coefficients,
                                    const WideChannels<WideNormalize>& wide) {
    return [&, x, y, least = least_result<T>()](std::int64_t group, const Tile& tile) {
        const std::int64_t first = tiling.first_channel(group), element = tiling.first_element(group);
        wide.run(
            first, tile,
            [&](std::int64_t channel, const Tile& part) {
                const std::int64_t at = element + channel - first;
                tiling.kernels.normalize(x + at, y + at, part, coefficients.of(channel), coefficients.pitch);
            },
            [&](std::int64_t offset, const WideNormalize& formula) {
                y[element + offset] = rounded<T>(formula(x[element + offset]), least);
            });
    };
}

}  // namespace

template <class T> void batch_norm_training(const Layout& layout, const T* x, T* y, const double* gamma,
                                            const double* beta, double eps, double* mean, double* var,
                                            double* inv_std) {
    const FloatMode mode;  // for the serial parts; tasks make their own
    const Tiling<T> tiling(layout, 1, 3, x == y);
    const std::int64_t channels = layout.channels;
    const double count = static_cast<double>(layout.count());
    const std::int64_t pitch = row_pitch(tiling.segments() * channels);
    const auto memory = uninitialized<double>(5 * pitch);
    double* const values = memory.get();
    const MomentArrays moments = {values, values + pitch, values + 2 * pitch, values + 3 * pitch, values + 4 * pitch};
    const Coefficients<T, Normalize> coefficients(layout);
    WideChannels<WideNormalize> wide(channels);
    const auto normalization = normalizing(tiling, x, y, coefficients, wide);
    tiling.run(
        [&](std::int64_t group, std::int64_t segment) {
            const std::int64_t at = segment * channels + tiling.first_channel(group);
            tiling.kernels.moments(x + tiling.first_element(group), tiling.tile(group, segment), moments + at);
        },
        [&](std::int64_t group) {
            const std::int64_t first = tiling.first_channel(group), end = first + tiling.tile(group, 0).channels;
            for (std::int64_t segment = 1; segment < tiling.segments(); ++segment) {
                for (std::int64_t c = first; c < end; ++c) {
                    const std::int64_t at = segment * channels + c;
                    Moments all(tiling.length(0, segment), moments, c);
                    all.merge(Moments(tiling.length(segment, segment + 1), moments, at));
                    all.store(moments, c);
                }
            }
            const auto fit = [=](std::int64_t c) {
                const double variance = var[c] + eps;
                return has_near_base<T>(moments, c, variance, count) &
                       fits<T>(gamma[c] * inv_std[c], gamma[c], beta[c], variance);
            };
            T all_fit = 1;  // 0 or 1, in T: GCC vectorises no other reduction here
#pragma GCC ivdep
            for (std::int64_t c = first; c < end; ++c) {
                double sum = moments.base[c], rest = 0;
                compensated_add(sum, rest, moments.offset[c]);
                mean[c] = sum;
                var[c] = (moments.m2[c] < 0 ? 0 : moments.m2[c]) / count;
                inv_std[c] = 1 / std::sqrt(var[c] + eps);
                coefficients.set(c, sum, rest, gamma[c] * inv_std[c], beta[c]);
                all_fit = fit(c) ? all_fit : 0;
            }
            if (all_fit == 1) return;
            for (std::int64_t c = first; c < end; ++c)
                if (!fit(c))
                    wide.set(c, wide_training(layout, c, x, gamma[c], beta[c], eps, mean[c], var[c], inv_std[c]));
        },
        normalization);
}

template <class T> void batch_norm_inference(const Layout& layout, const T* x, T* y, const double* gamma,
                                             const double* beta, const double* mean, const double* var, double eps) {
    const FloatMode mode;  // for the serial parts; tasks make their own
    const Tiling<T> tiling(layout, 1, 2, x == y);
    const Coefficients<T, Normalize> coefficients(layout);
    WideChannels<WideNormalize> wide(layout.channels);
    for (std::int64_t c = 0; c < layout.channels; ++c) {
        const double variance = var[c] + eps, scale = gamma[c] / std::sqrt(variance);
        coefficients.set(c, mean[c], 0, scale, beta[c]);
        if (!fits<T>(scale, gamma[c], beta[c], variance) || !(std::abs(mean[c]) <= Limits<T>::most))
            wide.set(c, wide_inference(gamma[c], beta[c], mean[c], var[c], eps));
    }
    tiling.write(normalizing(tiling, x, y, coefficients, wide));
}

template <class T> void batch_norm_backward(const Layout& layout, const T* x, const T* dout, T* dx, const double* gamma,
                                            const double* mean, const double* inv_std, double* dgamma, double* dbeta) {
    const FloatMode mode;  // for the serial parts; tasks make their own
    const Tiling<T> tiling(layout, 2, 5, dx == x || dx == dout);
    const std::int64_t channels = layout.channels;
    const double count = static_cast<double>(layout.count());
    const auto sums = uninitialized<double>(tiling.segments() * channels),
               dots = uninitialized<double>(tiling.segments() * channels);
    const Coefficients<T, Gradient> coefficients(layout);
    WideChannels<WideGradient> wide(channels);
    const double least = least_result<T>(), least_double = least_result<double>();
    for (std::int64_t c = 0; c < channels; ++c) coefficients.set(c, mean[c], 0);
    tiling.run(
        [&](std::int64_t group, std::int64_t segment) {
            const std::int64_t element = tiling.first_element(group), first = tiling.first_channel(group);
            const std::int64_t at = segment * channels + first;
            tiling.kernels.sums(x + element, dout + element, tiling.tile(group, segment), coefficients.of(first),
                                coefficients.pitch, &sums[at], &dots[at]);
        },
        [&](std::int64_t group) {
            const std::int64_t first = tiling.first_channel(group), end = first + tiling.tile(group, 0).channels;
            for (std::int64_t c = first; c < end; ++c) {
                double sum = 0, dot = 0, sum_low = 0, dot_low = 0;
                for (std::int64_t at = c; at < tiling.segments() * channels; at += channels) {
                    compensated_add(sum, sum_low, sums[at]);
                    compensated_add(dot, dot_low, dots[at]);
                }
                dbeta[c] = sum + sum_low;
                dgamma[c] = (dot + dot_low) * inv_std[c];
            }
            T all_ordinary = 1;  // as all_fit
#pragma GCC ivdep
            for (std::int64_t c = first; c < end; ++c) {
                coefficients.set(c, mean[c], 0, gamma[c] * inv_std[c], dbeta[c] / count,
                                 dgamma[c] * inv_std[c] / count);
                all_ordinary = is_ordinary(gamma[c], inv_std[c], dbeta[c], dgamma[c]) ? all_ordinary : 0;
            }
            if (all_ordinary == 1) return;
            for (std::int64_t c = first; c < end; ++c) {
                if (is_ordinary(gamma[c], inv_std[c], dbeta[c], dgamma[c])) continue;
                const Fit fit = gradient_fit<T>(gamma[c], inv_std[c], dbeta[c], dgamma[c], count);
                if (fit == Fit::kAlways || (fit == Fit::kIfZero && begins_with_zeros(layout, c, dout))) continue;
                wide.set(c, wide_backward(layout, c, x, dout, gamma[c], mean[c], inv_std[c], dgamma[c], dbeta[c]));
                dgamma[c] = rounded<double>(dgamma[c], least_double);
                dbeta[c] = rounded<double>(dbeta[c], least_double);
            }
        },
        [&](std::int64_t group, const Tile& tile) {
            const std::int64_t first = tiling.first_channel(group), element = tiling.first_element(group);
            wide.run(
                first, tile,
                [&](std::int64_t channel, const Tile& part) {
                    const std::int64_t at = element + channel - first;
                    tiling.kernels.gradient(x + at, dout + at, dx + at, part, coefficients.of(channel),
                                            coefficients.pitch);
                },
                [&](std::int64_t offset, const WideGradient& formula) {
                    const std::int64_t at = element + offset;
                    dx[at] = rounded<T>(formula(x[at], dout[at]), least);
                });
        });
}

template void batch_norm_training(const Layout&, const float*, float*, const double*, const double*, double, double*,
                                  double*, double*);
template void batch_norm_training(const Layout&, const double*, double*, const double*, const double*, double, double*,
                                  double*, double*);
template void batch_norm_inference(const Layout&, const float*, float*, const double*, const double*, const double*,
                                   const double*, double);
template void batch_norm_inference(const Layout&, const double*, double*, const double*, const double*, const double*,
                                   const double*, double);
template void batch_norm_backward(const Layout&, const float*, const float*, float*, const double*, const double*,
                                  const double*, double*, double*);
template void batch_norm_backward(const Layout&, const double*, const double*, double*, const double*, const double*,
                                  const double*, double*, double*);

}  // namespace fusedstep
