#include "batch_norm_wide.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

#include "compensated.hpp"
#include "float_mode.hpp"

namespace fusedstep {
namespace {

constexpr std::int64_t kChunk = 256;
constexpr int kLanes = 8, kMaxExponent = 1000;  // so that a scale and its inverse are normal numbers

// Copies n elements of a channel from number `begin` on, scaled.
template <class T> void gather(const Layout& layout, std::int64_t channel, const T* from, std::int64_t begin,
                               std::int64_t n, double scale, double* to) {
    std::int64_t inside = begin % layout.inner;
    std::int64_t at = (begin / layout.inner * layout.channels + channel) * layout.inner + inside;
    for (std::int64_t i = 0; i < n; ++i, ++at, ++inside) {
        if (inside == layout.inner) {
            inside = 0;
            at += (layout.channels - 1) * layout.inner;
        }
        to[i] = static_cast<double>(from[at]) * scale;
    }
}

// Calls f(begin, n) for the chunks of a channel.
template <class F> void over_chunks(const Layout& layout, F f) {
    for (std::int64_t begin = 0; begin < layout.count(); begin += kChunk)
        f(begin, std::min(kChunk, layout.count() - begin));
}

// Two sums over the elements of chunks.
class Sums {
  public:
    // terms(i, first, second) adds what element i of the chunk contributes.
    template <class Terms> void add(std::int64_t n, Terms terms) {
        double one[kLanes] = {}, other[kLanes] = {};
        for (std::int64_t i = 0; i < n; ++i) terms(i, one[i % kLanes], other[i % kLanes]);
        for (int lane = 0; lane < kLanes; ++lane) {
            compensated_add(first_, first_low_, one[lane]);
            compensated_add(second_, second_low_, other[lane]);
        }
    }

    double first() const { return first_ + first_low_; }
    double second() const { return second_ + second_low_; }

  private:
    double first_ = 0, first_low_ = 0, second_ = 0, second_low_ = 0;
};

struct Range {
    double lowest = std::numeric_limits<double>::infinity(), highest = -lowest;
    bool finite = true;

    double magnitude() const { return std::max(-lowest, highest); }
};

template <class T> Range range_of(const Layout& layout, std::int64_t channel, const T* x) {
    Range range;
    over_chunks(layout, [&](std::int64_t begin, std::int64_t n) {
        double values[kChunk];
        gather(layout, channel, x, begin, n, 1, values);
        for (std::int64_t i = 0; i < n; ++i) {
            range.lowest = std::min(range.lowest, values[i]);
            range.highest = std::max(range.highest, values[i]);
            range.finite &= std::isfinite(values[i]);
        }
    });
    return range;
}

// value = mantissa 2^exponent, mantissa from 1/2 to 1
struct Parts {
    int exponent = 0;
    double mantissa;

    explicit Parts(double value) : mantissa(std::frexp(value, &exponent)) {}
};

int scaling_exponent(double magnitude) {
    return std::clamp(Parts(magnitude).exponent, -kMaxExponent, kMaxExponent);
}

WideFactor factor_of(double mantissa, int exponent) {
    exponent = std::clamp(exponent, -2 * kMaxExponent, 2 * kMaxExponent);
    return {mantissa, std::ldexp(1, exponent / 2), std::ldexp(1, exponent - exponent / 2)};
}

// sqrt(var 2^(2 exponent) + eps) = root 2^result.exponent
struct Deviation {
    int exponent;
    double root;

    Deviation(double var, int var_exponent, double eps)
        : exponent(std::max(half_exponent(var, var_exponent), half_exponent(eps, 0))),
          root(std::sqrt(std::ldexp(var, 2 * (var_exponent - exponent)) + std::ldexp(eps, -2 * exponent))) {}

  private:
    static int half_exponent(double value, int more) {
        return value == 0 ? -2 * kMaxExponent : Parts(value).exponent / 2 + more;
    }
};

// mean and mean_rest are scaled by 2^-exponent.
std::unique_ptr<WideNormalize> normalization(double gamma, double beta, double mean, double mean_rest, int exponent,
                                             const Deviation& deviation) {
    constexpr double kLarge = 0x1p900;
    const int unit = std::max(std::abs(gamma), std::abs(beta)) > kLarge ? 64 : 0;  // a product may exceed the sum
    const Parts parts(gamma);
    return std::make_unique<WideNormalize>(
        WideNormalize{std::ldexp(1, -exponent), mean, mean_rest,
                      factor_of(parts.mantissa / deviation.root, parts.exponent + exponent - deviation.exponent - unit),
                      std::ldexp(beta, -unit), std::ldexp(1, unit)});
}

}  // namespace

template <class T> std::unique_ptr<WideNormalize> wide_training(const Layout& layout, std::int64_t channel, const T* x,
                                                                double gamma, double beta, double eps, double& mean,
                                                                double& var, double& inv_std) {
    const FloatMode mode(false);
    const Range range = range_of(layout, channel, x);
    if (!range.finite || range.lowest == range.highest) return nullptr;
    const int exponent = scaling_exponent(range.magnitude());
    const double scale = std::ldexp(1, -exponent), count = static_cast<double>(layout.count());
    double high = 0, low = 0, scaled_var = 0;
    for (int pass = 0; pass < 3; ++pass) {  // about 0, about nearly the mean, about the mean in two parts
        Sums sums;
        over_chunks(layout, [&](std::int64_t begin, std::int64_t n) {
            double values[kChunk];
            gather(layout, channel, x, begin, n, scale, values);
            sums.add(n, [&](std::int64_t i, double& sum, double& squares) {
                const double d = (values[i] - high) - low;
                sum += d;
                squares += d * d;
            });
        });
        const double change = sums.first() / count;
        compensated_add(high, low, change);
        scaled_var = std::max(0.0, sums.second() / count - change * change);
    }
    const Deviation deviation(scaled_var, exponent, eps);
    mean = std::ldexp(high + low, exponent);
    var = std::ldexp(scaled_var, 2 * exponent);
    inv_std = std::ldexp(1 / deviation.root, -deviation.exponent);
    return normalization(gamma, beta, high, low, exponent, deviation);
}

std::unique_ptr<WideNormalize> wide_inference(double gamma, double beta, double mean, double var, double eps) {
    const FloatMode mode(false);
    if (!std::isfinite(gamma) || !std::isfinite(beta) || !std::isfinite(mean) || !std::isfinite(var)) return nullptr;
    const int exponent = std::abs(mean) < 0x1p900 ? 0 : 2;
    return normalization(gamma, beta, std::ldexp(mean, -exponent), 0, exponent, Deviation(var, 0, eps));
}

template <class T> std::unique_ptr<WideGradient> wide_backward(const Layout& layout, std::int64_t channel, const T* x,
                                                               const T* dout, double gamma, double mean, double inv_std,
                                                               double& dgamma, double& dbeta) {
    const FloatMode mode(false);
    const Range x_range = range_of(layout, channel, x), dout_range = range_of(layout, channel, dout);
    if (!x_range.finite || !dout_range.finite || !std::isfinite(gamma) || !std::isfinite(mean) ||
        !std::isfinite(inv_std))
        return nullptr;
    const int exponent = scaling_exponent(std::max(std::abs(mean), x_range.magnitude())),
              dout_exponent = scaling_exponent(dout_range.magnitude());
    const double count = static_cast<double>(layout.count());
    const Parts gamma_parts(gamma), inv_std_parts(inv_std);
    WideGradient gradient{};
    gradient.scale = std::ldexp(1, -exponent);
    gradient.mean = std::ldexp(mean, -exponent);
    gradient.inv_std = std::ldexp(inv_std, exponent);
    gradient.dout_scale = std::ldexp(1, -dout_exponent);
    gradient.factor = factor_of(gamma_parts.mantissa * inv_std_parts.mantissa,
                                gamma_parts.exponent + inv_std_parts.exponent + dout_exponent);
    Sums sums;
    over_chunks(layout, [&](std::int64_t begin, std::int64_t n) {
        double values[kChunk], douts[kChunk];
        gather(layout, channel, x, begin, n, gradient.scale, values);
        gather(layout, channel, dout, begin, n, gradient.dout_scale, douts);
        sums.add(n, [&](std::int64_t i, double& sum, double& dot) {
            sum += douts[i];
            dot += douts[i] * (values[i] - gradient.mean);
        });
    });
    gradient.offset = sums.first() / count;
    gradient.slope = sums.second() / count * gradient.inv_std;
    dbeta = std::ldexp(sums.first(), dout_exponent);
    dgamma = std::ldexp(sums.second() * inv_std_parts.mantissa, inv_std_parts.exponent + exponent + dout_exponent);
    return std::make_unique<WideGradient>(gradient);
}

template <class T> bool begins_with_zeros(const Layout& layout, std::int64_t channel, const T* x) {
    const FloatMode mode(false);
    double values[64];
    const std::int64_t n = std::min<std::int64_t>(64, layout.count());
    gather(layout, channel, x, 0, n, 1, values);
    return std::all_of(values, values + n, [](double value) { return value == 0; });
}

template std::unique_ptr<WideNormalize> wide_training(const Layout&, std::int64_t, const float*, double, double, double,
                                                      double&, double&, double&);
template std::unique_ptr<WideNormalize> wide_training(const Layout&, std::int64_t, const double*, double, double,
                                                      double, double&, double&, double&);
template std::unique_ptr<WideGradient> wide_backward(const Layout&, std::int64_t, const float*, const float*, double,
                                                     double, double, double&, double&);
template std::unique_ptr<WideGradient> wide_backward(const Layout&, std::int64_t, const double*, const double*, double,
                                                     double, double, double&, double&);
template bool begins_with_zeros(const Layout&, std::int64_t, const float*);
template bool begins_with_zeros(const Layout&, std::int64_t, const double*);

}  // namespace fusedstep
