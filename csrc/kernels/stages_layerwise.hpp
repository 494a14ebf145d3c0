// Rules whose step is scaled by norms of the array itself. What norms are taken of is a stage of its own, which writes
// no state: the rule makes the same again in the next pass.
#pragma once

#include <cmath>

// Without a name for the reason given in stages_around.hpp.
namespace {

// You et al. 2020: scale and eps carry the bias corrections, c = 1 - beta, step = lr times the trust ratio.
template <class T> struct Lamb {
    T c1, c2, scale, eps, decay, step;

    T update(const T& w, const T& g, T& m, T& v) const {
        m += c1 * (g - m);
        v += c2 * (g * g - v);
        return scale * m / (std::sqrt(v) + eps) + decay * w;
    }

    void operator()(T& w, const T& g, T& m, T& v) const { w -= step * update(w, g, m, v); }
};

template <class T> struct LambUpdate {
    Lamb<T> rule;

    void operator()(T& u, const T& w, const T& g, const T& m, const T& v) const {
        T new_m = m, new_v = v;
        u = rule.update(w, g, new_m, new_v);
    }
};

// You et al. 2017: step = lr times the trust ratio.
template <class T> struct Lars {
    T a, decay, step;

    void operator()(T& w, const T& g, T& v) const {
        v = a * v + step * (g + decay * w);
        w -= v;
    }
};

template <class T> struct LarsNesterov {
    T a, decay, step;

    void operator()(T& w, const T& g, T& v) const {
        const T d = step * (g + decay * w);
        v = a * v + d;
        w -= a * v + d;
    }
};

// Wortsman et al. 2023: c = 1 - debiased beta, step = lr / max(1, RMS), keep = 1 - step * weight_decay.
template <class T> struct StableAdamW {
    T c1, c2, eps, keep, step;

    void operator()(T& w, const T& g, T& m, T& v) const {
        m += c1 * (g - m);
        v += c2 * (g * g - v);
        w = keep * w - step * m / (std::sqrt(v) + eps);
    }
};

// Gradients in units of the new v's roots: floor = eps^2.
template <class T> struct StableAdamWRatio {
    T c2, floor;

    void operator()(T& u, const T& g, const T& v) const {
        const T new_v = v + c2 * (g * g - v);
        u = g / std::sqrt(new_v < floor ? floor : new_v);
    }
};

}  // namespace
