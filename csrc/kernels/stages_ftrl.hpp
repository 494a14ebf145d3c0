// Follow the regularized leader, for sparse linear models.
#pragma once

#include <cmath>

// Without a name for the reason given in stages_around.hpp.
namespace {

// McMahan et al. 2013, with Keras' shrinkage: l2 and shrink are twice the strengths.
template <class T> struct Ftrl {
    T lr, beta, l1, l2, shrink;

    void operator()(T& w, const T& g, T& n, T& z) const {
        const T before = std::sqrt(n);
        n += g * g;
        const T root = std::sqrt(n);
        z += (g + shrink * w) - (root - before) / lr * w;
        const T inside = z > l1 ? l1 : z < -l1 ? -l1 : z;
        w = (inside - z) / ((root + beta) / lr + l2);
    }
};

}  // namespace
