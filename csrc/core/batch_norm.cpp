#include "batch_norm.hpp"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <limits>
#include <memory>
#include <mutex>
#include <vector>

#include "batch_norm_coefficients.hpp"
#include "batch_norm_formulas.hpp"
#include "batch_norm_tiling.hpp"
#include "batch_norm_wide.hpp"
#include "compensated.hpp"
#include "float_mode.hpp"

namespace fusedstep {
namespace {

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

// Measures a segment of a group.
template <class T>
auto measuring(const Tiling<T>& tiling, const T* x, const MomentArrays& moments, std::int64_t channels) {
    return [&, x, channels](std::int64_t group, std::int64_t segment) {
        const std::int64_t at = segment * channels + tiling.first_channel(group);
        tiling.kernels.moments(x + tiling.first_element(group), tiling.tile(group, segment), moments + at);
    };
}

// Adds up dout and its products with x - mean in a segment of a group.
template <class T> auto summing(const Tiling<T>& tiling, const T* x, const T* dout,
                                const Coefficients<T, Gradient>& coefficients, double* sums, double* dots,
                                std::int64_t channels) {
    return [&, x, dout, sums, dots, channels](std::int64_t group, std::int64_t segment) {
        const std::int64_t element = tiling.first_element(group), first = tiling.first_channel(group);
        const std::int64_t at = segment * channels + first;
        tiling.kernels.sums(x + element, dout + element, tiling.tile(group, segment), coefficients.of(first),
                            coefficients.pitch, sums + at, dots + at);
    };
}

// Leaves the moments of all segments in the first one's place.
template <class T> void merge_segments(const Tiling<T>& tiling, const MomentArrays& moments, std::int64_t first,
                                       std::int64_t end, std::int64_t channels) {
    for (std::int64_t segment = 1; segment < tiling.segments(); ++segment) {
        for (std::int64_t c = first; c < end; ++c) {
            const std::int64_t at = segment * channels + c;
            Moments all(tiling.length(0, segment), moments, c);
            all.merge(Moments(tiling.length(segment, segment + 1), moments, at));
            all.store(moments, c);
        }
    }
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

// Adds up what the segments of a channel have.
template <class T> void add_segments(const Tiling<T>& tiling, const double* sums, const double* dots,
                                     std::int64_t first, std::int64_t end, std::int64_t channels, double* sum_of_all,
                                     double* dot_of_all) {
    for (std::int64_t c = first; c < end; ++c) {
        double sum = 0, dot = 0, sum_low = 0, dot_low = 0;
        for (std::int64_t at = c; at < tiling.segments() * channels; at += channels) {
            compensated_add(sum, sum_low, sums[at]);
            compensated_add(dot, dot_low, dots[at]);
        }
        sum_of_all[c] = sum + sum_low;
        dot_of_all[c] = dot + dot_low;
    }
}

// Writes dx in a tile of a group.
template <class T> auto derivative(const Tiling<T>& tiling, const T* x, const T* dout, T* dx,
                                   const Coefficients<T, Gradient>& coefficients,
                                   const WideChannels<WideGradient>& wide) {
    return [&, x, dout, dx, least = least_result<T>()](std::int64_t group, const Tile& tile) {
        const std::int64_t first = tiling.first_channel(group), element = tiling.first_element(group);
        wide.run(
            first, tile,
            [&](std::int64_t channel, const Tile& part) {
                const std::int64_t at = element + channel - first;
                tiling.kernels.gradient(x + at, dout + at, dx + at, part, coefficients.of(channel), coefficients.pitch);
            },
            [&](std::int64_t offset, const WideGradient& formula) {
                const std::int64_t at = element + offset;
                dx[at] = rounded<T>(formula(x[at], dout[at]), least);
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
        measuring(tiling, x, moments, channels),
        [&](std::int64_t group) {
            const std::int64_t first = tiling.first_channel(group), end = first + tiling.tile(group, 0).channels;
            merge_segments(tiling, moments, first, end, channels);
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
                                             const double* beta, const double* mean, const double* var, double eps,
                                             const double* mean_rest) {
    const FloatMode mode;  // for the serial parts; tasks make their own
    const Tiling<T> tiling(layout, 1, 2, x == y);
    const Coefficients<T, Normalize> coefficients(layout);
    WideChannels<WideNormalize> wide(layout.channels);
    for (std::int64_t c = 0; c < layout.channels; ++c) {
        const double variance = var[c] + eps, scale = gamma[c] / std::sqrt(variance);
        coefficients.set(c, mean[c], mean_rest ? mean_rest[c] : 0, scale, beta[c]);
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
        summing(tiling, x, dout, coefficients, sums.get(), dots.get(), channels),
        [&](std::int64_t group) {
            const std::int64_t first = tiling.first_channel(group), end = first + tiling.tile(group, 0).channels;
            add_segments(tiling, sums.get(), dots.get(), first, end, channels, dbeta, dgamma);
            for (std::int64_t c = first; c < end; ++c) dgamma[c] *= inv_std[c];
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
        derivative(tiling, x, dout, dx, coefficients, wide));
}

template <class T>
void batch_norm_moments(const Layout& layout, const T* x, double eps, double* mean, double* mean_rest, double* m2) {
    const FloatMode mode;  // for the serial parts; tasks make their own
    const Tiling<T> tiling(layout, 1, 1, true);
    const std::int64_t channels = layout.channels;
    const double count = static_cast<double>(layout.count());
    const std::int64_t pitch = row_pitch(tiling.segments() * channels);
    const auto memory = uninitialized<double>(5 * pitch);
    double* const values = memory.get();
    const MomentArrays moments = {values, values + pitch, values + 2 * pitch, values + 3 * pitch, values + 4 * pitch};
    tiling.run(
        measuring(tiling, x, moments, channels),
        [&](std::int64_t group) {
            const std::int64_t first = tiling.first_channel(group), end = first + tiling.tile(group, 0).channels;
            merge_segments(tiling, moments, first, end, channels);
            for (std::int64_t c = first; c < end; ++c) {
                mean[c] = moments.base[c];
                mean_rest[c] = 0;
                compensated_add(mean[c], mean_rest[c], moments.offset[c]);
                m2[c] = moments.m2[c] < 0 ? 0 : moments.m2[c];
                double var = m2[c] / count, inv_std;
                if (has_near_base<T>(moments, c, var + eps, count) && fits<T>(1, 1, 0, var + eps)) continue;
                if (!wide_training(layout, c, x, 1, 0, eps, mean[c], var, inv_std)) continue;
                mean_rest[c] = 0;
                m2[c] = var * count;
            }
        },
        [](std::int64_t, const Tile&) {});
}

template <class T>
void batch_norm_sums(const Layout& layout, const T* x, const T* dout, const double* mean, double* dots, double* sums) {
    const FloatMode mode;  // for the serial parts; tasks make their own
    const Tiling<T> tiling(layout, 2, 2, true);
    const std::int64_t channels = layout.channels;
    const auto sums_of_segments = uninitialized<double>(tiling.segments() * channels),
               dots_of_segments = uninitialized<double>(tiling.segments() * channels);
    const Coefficients<T, Gradient> coefficients(layout);
    for (std::int64_t c = 0; c < channels; ++c) coefficients.set(c, mean[c], 0);
    tiling.run(
        summing(tiling, x, dout, coefficients, sums_of_segments.get(), dots_of_segments.get(), channels),
        [&](std::int64_t group) {
            const std::int64_t first = tiling.first_channel(group), end = first + tiling.tile(group, 0).channels;
            add_segments(tiling, sums_of_segments.get(), dots_of_segments.get(), first, end, channels, sums, dots);
        },
        [](std::int64_t, const Tile&) {});
}

template <class T> void batch_norm_gradient(const Layout& layout, const T* x, const T* dout, T* dx, const double* gamma,
                                            const double* mean, const double* inv_std, const double* dgamma,
                                            const double* dbeta, double count) {
    const FloatMode mode;  // for the serial parts; tasks make their own
    const Tiling<T> tiling(layout, 2, 3, dx == x || dx == dout);
    const Coefficients<T, Gradient> coefficients(layout);
    WideChannels<WideGradient> wide(layout.channels);
    for (std::int64_t c = 0; c < layout.channels; ++c) {
        const double scale = gamma[c] * inv_std[c], offset = dbeta[c] / count, slope = dgamma[c] / count;
        coefficients.set(c, mean[c], 0, scale, offset, slope * inv_std[c]);
        if (!is_ordinary(gamma[c], inv_std[c], dbeta[c], dgamma[c]))
            wide.set(c, std::unique_ptr<WideGradient>(
                            new WideGradient{1, mean[c], inv_std[c], 1, offset, slope, {scale, 1, 1}}));
    }
    tiling.write(derivative(tiling, x, dout, dx, coefficients, wide));
}

template void batch_norm_training(const Layout&, const float*, float*, const double*, const double*, double, double*,
                                  double*, double*);
template void batch_norm_training(const Layout&, const double*, double*, const double*, const double*, double, double*,
                                  double*, double*);
template void batch_norm_inference(const Layout&, const float*, float*, const double*, const double*, const double*,
                                   const double*, double, const double*);
template void batch_norm_inference(const Layout&, const double*, double*, const double*, const double*, const double*,
                                   const double*, double, const double*);
template void batch_norm_backward(const Layout&, const float*, const float*, float*, const double*, const double*,
                                  const double*, double*, double*);
template void batch_norm_backward(const Layout&, const double*, const double*, double*, const double*, const double*,
                                  const double*, double*, double*);

template void batch_norm_moments(const Layout&, const float*, double, double*, double*, double*);
template void batch_norm_sums(const Layout&, const float*, const float*, const double*, double*, double*);
template void batch_norm_gradient(const Layout&, const float*, const float*, float*, const double*, const double*,
                                  const double*, const double*, const double*, double);
template void batch_norm_moments(const Layout&, const double*, double, double*, double*, double*);
template void batch_norm_sums(const Layout&, const double*, const double*, const double*, double*, double*);
template void batch_norm_gradient(const Layout&, const double*, const double*, double*, const double*, const double*,
                                  const double*, const double*, const double*, double);

}  // namespace fusedstep
