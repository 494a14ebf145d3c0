// Adam and its relatives.
#pragma once

#include <cmath>

#include "stages_adaptive.hpp"

// Without a name for the reason given in stages_around.hpp.
namespace {

// c = 1 - beta
template <class T> struct MovingMoments {
    T c1, c2;

    void operator()(const T& g, T& m, T& v) const {
        m += c1 * (g - m);
        v += c2 * (g * g - v);
    }
};

// Kingma & Ba 2015: step and the epsilons carry the bias corrections.
template <class T> struct Adam {
    T step;
    MovingMoments<T> moments;
    Root<T> root;

    void operator()(T& w, const T& g, T& m, T& v) const {
        moments(g, m, v);
        w -= step * m / root(v);
    }
};

// As scikit-learn has it. NumPy makes its last line in double whatever T is, because the step is a scalar in double
// there; here it is the sum of three numbers of type T.
template <class T> struct SklearnAdam {
    T step_high, step_middle, step_low, beta1, beta2, c1, c2, eps;

    void operator()(T& w, const T& g, T& m, T& v) const {
        m = beta1 * m + c1 * g;
        v = beta2 * v + c2 * (g * g);
        const double step = static_cast<double>(step_high) + step_middle + step_low;
        w = static_cast<T>(w - step * m / static_cast<double>(std::sqrt(v) + eps));
    }
};

// Reddi et al. 2018.
template <class T> struct AmsGrad {
    T step;
    MovingMoments<T> moments;
    T correction;
    Root<T> root;

    void operator()(T& w, const T& g, T& m, T& v, T& vmax) const {
        moments(g, m, v);
        vmax = larger(vmax, correction * v);
        w -= step * m / root(vmax);
    }
};

// Kingma & Ba 2015, section 7.1.
template <class T> struct Adamax {
    T step, c1, beta2, eps_inside, eps_outside;

    void operator()(T& w, const T& g, T& m, T& u) const {
        m += c1 * (g - m);
        u = larger(beta2 * u, std::fabs(g) + eps_inside);
        w -= step * m / (u + eps_outside);
    }
};

// Liu et al. 2020 while the variance is intractable; afterwards it is Adam with another step.
template <class T> struct RAdamStart {
    T step;
    MovingMoments<T> moments;

    void operator()(T& w, const T& g, T& m, T& v) const {
        moments(g, m, v);
        w -= step * m;
    }
};

// Dozat 2016.
template <class T> struct NAdam {
    T step, step_of_gradient;
    MovingMoments<T> moments;
    Root<T> root;

    void operator()(T& w, const T& g, T& m, T& v) const {
        moments(g, m, v);
        w -= (step_of_gradient * g + step * m) / root(v);
    }
};

}  // namespace
