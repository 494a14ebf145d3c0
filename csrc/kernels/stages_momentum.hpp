// Gradient descent, with and without momentum.
#pragma once

// Without a name for the reason given in stages_around.hpp.
namespace {

// w -= lr g
template <class T> struct Sgd {
    T lr;

    void operator()(T& w, const T& g) const { w -= lr * g; }
};

// Polyak 1964 with the learning rate in the velocity, as in the book.
template <class T> struct Momentum {
    T lr, a;

    void operator()(T& w, const T& g, T& v) const {
        v = a * v - lr * g;
        w += v;
    }
};

// The same with the learning rate outside the velocity, as on the slides and in PyTorch.
template <class T> struct MomentumPlainVelocity {
    T lr, a;

    void operator()(T& w, const T& g, T& v) const {
        v = a * v + g;
        w -= lr * v;
    }
};

// Nesterov's method in the form of Bengio et al. 2013: aa = a^2, step = (1 + a) lr.
template <class T> struct Nesterov {
    T lr, a, aa, step;

    void operator()(T& w, const T& g, T& v) const {
        w += aa * v;
        w -= step * g;
        v = a * v - lr * g;
    }
};

// The same with the new velocity in the step, as in the book's older editions.
template <class T> struct NesterovNewVelocity {
    T lr, a, aa, step;

    void operator()(T& w, const T& g, T& v) const {
        v = a * v - lr * g;
        w += aa * v;
        w -= step * g;
    }
};

}  // namespace
