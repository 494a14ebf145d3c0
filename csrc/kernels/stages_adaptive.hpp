// Rules that divide by the root of a sum or mean of squared gradients.
#pragma once

#include <cmath>

// Without a name for the reason given in stages_around.hpp.
namespace {

// Duchi et al. 2011, diagonal.
template <class T> struct AdaGrad {
    T lr, eps_inside, eps_outside;

    void operator()(T& w, const T& g, T& h) const {
        h += g * g;
        w -= lr * g / (std::sqrt(h + eps_inside) + eps_outside);
    }
};

// Tieleman & Hinton 2012: c = 1 - decay_rate.
template <class T> struct RmsProp {
    T lr, decay, c, eps_inside, eps_outside;

    void operator()(T& w, const T& g, T& h) const {
        h *= decay;
        h += c * g * g;
        w -= lr * g / (std::sqrt(h + eps_inside) + eps_outside);
    }
};

}  // namespace
