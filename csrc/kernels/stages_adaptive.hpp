// Rules that divide by the root of a sum or mean of squared gradients.
#pragma once

#include <cmath>

// Without a name for the reason given in stages_around.hpp.
namespace {

// What such a rule divides by.
template <class T> struct Root {
    T eps_inside, eps_outside;

    T operator()(const T& v) const { return std::sqrt(v + eps_inside) + eps_outside; }
};

// c = 1 - decay
template <class T> struct MeanSquare {
    T decay, c;

    void operator()(const T& g, T& h) const {
        h *= decay;
        h += c * g * g;
    }
};

// A NaN goes through, as in NumPy's maximum.
template <class T> T larger(const T& a, const T& b) {
    return a >= b || a != a ? a : b;
}

// Duchi et al. 2011, diagonal.
template <class T> struct AdaGrad {
    T lr;
    Root<T> root;

    void operator()(T& w, const T& g, T& h) const {
        h += g * g;
        w -= lr * g / root(h);
    }
};

// Zeiler 2012.
template <class T> struct Adadelta {
    T lr, eps;
    MeanSquare<T> square;

    void operator()(T& w, const T& g, T& h, T& d) const {
        square(g, h);
        const T delta = std::sqrt(d + eps) / std::sqrt(h + eps) * g;
        square(delta, d);
        w -= lr * delta;
    }
};

// DeZero's form.
template <class T> struct AdadeltaOneRoot {
    T lr, eps;
    MeanSquare<T> square;

    void operator()(T& w, const T& g, T& h, T& d) const {
        square(g, h);
        const T delta = std::sqrt((d + eps) / (h + eps)) * g;
        square(delta, d);
        w -= lr * delta;
    }
};

// Tieleman & Hinton 2012.
template <class T> struct RmsProp {
    T lr;
    MeanSquare<T> square;
    Root<T> root;

    void operator()(T& w, const T& g, T& h) const {
        square(g, h);
        w -= lr * g / root(h);
    }
};

// Graves 2013: h less the square of the mean, which rounding must not make negative.
template <class T> T variance(const T& h, const T& mean) {
    const T v = h - mean * mean;
    return v < 0 ? T(0) : v;
}

template <class T> struct RmsPropCentered {
    T lr;
    MeanSquare<T> square;
    Root<T> root;

    void operator()(T& w, const T& g, T& h, T& mean) const {
        square(g, h);
        mean += square.c * (g - mean);
        w -= lr * g / root(variance(h, mean));
    }
};

// The learning rate is in one of two places, and 1 in the other.
template <class T> struct RmsPropMomentum {
    T inside, outside, a;
    MeanSquare<T> square;
    Root<T> root;

    void operator()(T& w, const T& g, T& h, T& v) const {
        square(g, h);
        v = a * v + inside * g / root(h);
        w -= outside * v;
    }
};

template <class T> struct RmsPropCenteredMomentum {
    T inside, outside, a;
    MeanSquare<T> square;
    Root<T> root;

    void operator()(T& w, const T& g, T& h, T& mean, T& v) const {
        square(g, h);
        mean += square.c * (g - mean);
        v = a * v + inside * g / root(variance(h, mean));
        w -= outside * v;
    }
};

}  // namespace
