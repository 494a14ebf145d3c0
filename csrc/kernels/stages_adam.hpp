// Adam.
#pragma once

#include <cmath>

// Without a name for the reason given in stages_around.hpp.
namespace {

// Kingma & Ba 2015: step and the epsilons carry the bias corrections, c = 1 - beta.
template <class T> struct Adam {
    T step, c1, c2, eps_inside, eps_outside;

    void operator()(T& w, const T& g, T& m, T& v) const {
        m += c1 * (g - m);
        v += c2 * (g * g - v);
        w -= step * m / (std::sqrt(v + eps_inside) + eps_outside);
    }
};

}  // namespace
