// The formulas of batch normalisation (Ioffe & Szegedy 2015), for one element, and of the statistics they rest on.
#pragma once

#include <cstdint>

#include "table.hpp"
#include "vector.hpp"

// Without a name for the reason given in stages_around.hpp.
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
// Where base isn't near, the other two members tell: the mean of `count` numbers may have an error of u / sqrt(12)
// times the root of offset_squares, from rounding offsets, and `cancelled` is the largest number subtracted in a part's
// m2.
struct Moments {
    double count, base, offset, m2, offset_squares = 0, cancelled = 0;

    Moments(double n, double b, double o, double m) : count(n), base(b), offset(o), m2(m) {}
    Moments(double n, const fusedstep::MomentArrays& from, std::int64_t at)
        : count(n),
          base(from.base[at]),
          offset(from.offset[at]),
          m2(from.m2[at]),
          offset_squares(from.offset_squares[at]),
          cancelled(from.cancelled[at]) {}

    void store(const fusedstep::MomentArrays& to, std::int64_t at) const {
        to.base[at] = base;
        to.offset[at] = offset;
        to.m2[at] = m2;
        to.offset_squares[at] = offset_squares;
        to.cancelled[at] = cancelled;
    }

    void merge(const Moments& other) {
        const double total = count + other.count, difference = (other.base - base) + (other.offset - offset);
        const double weight = other.count / total, rest = count / total;
        offset += difference * weight;
        m2 += other.m2 + difference * difference * (count * weight);
        offset_squares = rest * rest * offset_squares + weight * weight * other.offset_squares + offset * offset;
        cancelled = cancelled < other.cancelled ? other.cancelled : cancelled;
        count = total;
    }
};

// The moments of `count` numbers of which only the sums of x - pivot and (x - pivot)^2 are known.
inline Moments moments_about(double pivot, double base, double count, double sum, double square_sum) {
    const double mean_of_differences = sum / count;
    Moments moments(count, base, (pivot - base) + mean_of_differences, square_sum - sum * mean_of_differences);
    moments.cancelled = sum * mean_of_differences;
    return moments;
}

}  // namespace
