// The formulas of batch normalisation (Ioffe & Szegedy 2015), for one element, and of the statistics they rest on.
#pragma once

#include <cstdint>

#include "vector.hpp"

// Without a name for the reason given in stages.hpp.
namespace {

// In all of this an element X, and a coefficient T, is a number or a vector of numbers; a number goes with a vector.

// The mean is in two parts, so that x - mean keeps its digits where |mean| is large beside the deviation.
template <class X, class T> X centred(X x, T mean, T mean_rest) {
    return (x - mean) - mean_rest;
}

// y = gamma (x - mean) inv_std + beta, with scale = gamma inv_std.
template <class T> struct Normalize {
    static constexpr int coefficients = 4;
    T mean, mean_rest, scale, shift;

    template <class C> static Normalize load(const C* c, std::int64_t n) {
        return {elements<T>(c), elements<T>(c + n), elements<T>(c + 2 * n), elements<T>(c + 3 * n)};
    }

    template <class X> X operator()(X x) const { return centred(x, mean, mean_rest) * scale + shift; }
};

// dx = gamma inv_std (dout - mean(dout) - xhat mean(dout xhat)), with offset = mean(dout) and
// slope = inv_std mean(dout xhat).
template <class T> struct Gradient {
    static constexpr int coefficients = 5;
    T mean, mean_rest, scale, offset, slope;

    template <class C> static Gradient load(const C* c, std::int64_t n) {
        return {elements<T>(c), elements<T>(c + n), elements<T>(c + 2 * n), elements<T>(c + 3 * n),
                elements<T>(c + 4 * n)};
    }

    template <class X> X operator()(X x, X dout) const {
        return scale * ((dout - offset) - centred(x, mean, mean_rest) * slope);
    }
};

// Count, mean and sum of squared deviations of a set of numbers; merged as by Chan, Golub & LeVeque 1979. The mean is
// base + offset, where base is one of few numbers near it: the difference of two means then keeps its digits.
struct Moments {
    double count, base, offset, m2;

    void merge(const Moments& other) {
        const double total = count + other.count, difference = (other.base - base) + (other.offset - offset);
        offset += difference * (other.count / total);
        m2 += other.m2 + difference * difference * (count * (other.count / total));
        count = total;
    }
};

// The moments of `count` numbers of which only the sums of x - pivot and (x - pivot)^2 are known.
inline Moments moments_about(double pivot, double base, double count, double sum, double square_sum) {
    const double mean_of_differences = sum / count;
    return {count, base, (pivot - base) + mean_of_differences, square_sum - sum * mean_of_differences};
}

}  // namespace
