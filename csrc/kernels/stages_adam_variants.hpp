// Rules that change Adam's moments, or what is made of them. step and the epsilons carry the bias corrections, c = 1 -
// beta.
#pragma once

#include <cmath>

#include "stages_around.hpp"
#include "stages_signs.hpp"

// Without a name for the reason given in stages_around.hpp.
namespace {

// Zhuang et al. 2020: s is of the gradient's distance to its mean.
template <class T> struct AdaBelief {
    T step, c1, c2, eps_root, eps;

    void operator()(T& w, const T& g, T& m, T& s) const {
        m += c1 * (g - m);
        const T surprise = g - m;
        s += c2 * (surprise * surprise - s);
        s += eps_root;
        w -= step * m / (std::sqrt(s) + eps);
    }
};

// Zaheer et al. 2018: v moves by a part of g^2, whatever its distance.
template <class T> struct YogiStep {
    T step, c2, eps;

    void operator()(T& w, const T& g, const T& m, T& v) const {
        const T square = g * g, distance = v - square;
        v -= c2 * sign(distance) * square;
        w -= step * m / (std::sqrt(v) + eps);
    }
};

template <class T> struct Yogi {
    T c1;
    YogiStep<T> rest;

    void operator()(T& w, const T& g, T& m, T& v) const {
        m += c1 * (g - m);
        rest(w, g, m, v);
    }
};

// As Flower has it.
template <class T> struct FlowerYogi {
    T beta1, c1;
    YogiStep<T> rest;

    void operator()(T& w, const T& g, T& m, T& v) const {
        m = beta1 * m + c1 * g;
        rest(w, g, m, v);
    }
};

// Ziyin et al. 2020: the mean is one of gradients that are divided already. root = sqrt(1 - beta2^t).
template <class T> struct LaProp {
    T step, c1, c2, root, eps;

    void operator()(T& w, const T& g, T& m, T& v) const {
        v += c2 * (g * g - v);
        m += c1 * (root * g / (std::sqrt(v) + eps) - m);
        w -= step * m;
    }
};

// Taniguchi et al. 2024: the first step begins v, and leaves the parameter alone.
template <class T> struct AdoptFirst {
    void operator()(const T&, const T& g, T& v) const { v = g * g; }
};

// The gradient is divided by the root of v before its own square is part of it.
template <class T> struct Adopt {
    T lr, c1, c2, eps;

    void operator()(T& w, const T& g, T& m, T& v) const { move(w, g, m, v, divided(g, v)); }

    T divided(const T& g, const T& v) const {
        const T root = std::sqrt(v);
        return g / (root < eps ? eps : root);  // a NaN goes through
    }

    void move(T& w, const T& g, T& m, T& v, T normed) const {
        m += c1 * (normed - m);
        w -= lr * m;
        v += c2 * (g * g - v);
    }
};

template <class T> struct AdoptClipped {
    Clip<T> clip;
    Adopt<T> adopt;

    void operator()(T& w, const T& g, T& m, T& v) const {
        T normed = adopt.divided(g, v);
        clip(normed);
        adopt.move(w, g, m, v, normed);
    }
};

// Pagliardini et al. 2024: slow is the step of the mean with the long memory, which has no correction.
template <class T> struct AdEmaMix {
    T step, slow, c1, c2, c3, eps;

    void operator()(T& w, const T& g, T& m1, T& m2, T& v) const {
        m1 += c1 * (g - m1);
        m2 += c3 * (g - m2);
        v += c2 * (g * g - v);
        w -= (step * m1 + slow * m2) / (std::sqrt(v) + eps);
    }
};

// Xie et al. 2022: v is of differences of gradients, keep is the factor of proximal decay.
template <class T> struct Adan {
    T step, difference_step, c1, c2, c3, ahead, eps_inside, eps_outside, keep;

    void operator()(T& w, const T& g, T& m, T& v, T& n, T& g_prev) const { move(w, g, m, v, n, g_prev, g - g_prev); }

    void move(T& w, const T& g, T& m, T& v, T& n, T& g_prev, T difference) const {
        m += c1 * (g - m);
        v += c2 * (difference - v);
        const T look = g + ahead * difference;
        n += c3 * (look * look - n);
        w -= (step * m + difference_step * v) / (std::sqrt(n + eps_inside) + eps_outside);
        w *= keep;
        g_prev = g;
    }
};

// The first step, where there is no difference.
template <class T> struct AdanFirst {
    Adan<T> adan;

    void operator()(T& w, const T& g, T& m, T& v, T& n, T& g_prev) const { adan.move(w, g, m, v, n, g_prev, T(0)); }
};

}  // namespace
