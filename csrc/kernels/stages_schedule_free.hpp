// Schedule-Free rules (Defazio et al. 2024): w is y, at which gradients are taken; the averaged point x lies between y
// and z.
#pragma once

#include <cmath>

// Without a name for the reason given in stages_around.hpp.
namespace {

// share is that of z in the average, pull = lr (beta (1 - share) - 1).
template <class T> struct ScheduleFreeSgd {
    T share, pull, lr;

    void operator()(T& w, const T& g, T& z) const {
        w += share * (z - w);
        w += pull * g;
        z -= lr * g;
    }
};

// root and eps carry the bias correction, c = 1 - beta2.
template <class T> struct ScheduleFreeAdamW {
    T c, root, eps, decay, share, pull, lr;

    void operator()(T& w, const T& g, T& z, T& v) const {
        v += c * (g * g - v);
        const T direction = root * g / (std::sqrt(v) + eps) + decay * w;
        w += share * (z - w);
        w += pull * direction;
        z -= lr * direction;
    }
};

}  // namespace
