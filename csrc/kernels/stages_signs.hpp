// Rules whose step has the same size for every weight: the sign of a gradient or of a mean of them.
#pragma once

// Without a name for the reason given in stages_around.hpp.
namespace {

// As NumPy's: 0 for both zeros, NaN for a NaN.
template <class T> T sign(T x) {
    return x > 0 ? T(1) : x < 0 ? T(-1) : x == 0 ? T(0) : x;
}

// Bernstein et al. 2018, signSGD.
template <class T> struct SignSgd {
    T lr;

    void operator()(T& w, const T& g) const { w -= lr * sign(g); }
};

// The same with momentum: c = 1 - a.
template <class T> struct Signum {
    T lr, a, c;

    void operator()(T& w, const T& g, T& m) const {
        m = a * m + c * g;
        w -= lr * sign(m);
    }
};

// Chen et al. 2023: b1, b2 are the betas, c = 1 - beta.
template <class T> struct Lion {
    T lr, b1, c1, b2, c2;

    void operator()(T& w, const T& g, T& m) const {
        w -= lr * sign(b1 * m + c1 * g);
        m = b2 * m + c2 * g;
    }
};

}  // namespace
