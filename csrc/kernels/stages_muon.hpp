// Muon, but for the matrix products.
#pragma once

// Without a name for the reason given in stages_around.hpp.
namespace {

// Jordan et al. 2024: c = 1 - momentum, k = c with Nesterov's momentum, else 0.
template <class T> struct MuonDirection {
    T c, k;

    void operator()(T& m, T& direction, const T& g) const {
        m += c * (g - m);
        direction = m + k * (g - m);
    }
};

// With a direction that is orthogonal by now.
template <class T> struct Muon {
    T lr, c;

    void operator()(T& w, const T& g, T& m, const T& direction) const {
        m += c * (g - m);
        w -= lr * direction;
    }
};

}  // namespace
