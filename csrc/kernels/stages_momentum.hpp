// Gradient descent: plain, with momentum, and by the signs of the gradient.
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

// The same as PyTorch has it: c = 1 - dampening, and keep = a. In the first step keep is 0 and c is 1.
template <class T> struct SgdMomentum {
    T lr, keep, c;

    void operator()(T& w, const T& g, T& v) const {
        v = keep * v + c * g;
        w -= lr * v;
    }
};

template <class T> struct SgdNesterov {
    T lr, keep, c, a;

    void operator()(T& w, const T& g, T& v) const {
        v = keep * v + c * g;
        w -= lr * (g + a * v);
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

// Sutskever et al. 2013 as scikit-learn has it: the gradient once more with the new velocity.
template <class T> struct SklearnNesterov {
    T lr, a;

    void operator()(T& w, const T& g, T& v) const {
        v = a * v - lr * g;
        w += a * v - lr * g;
    }
};

// Riedmiller & Braun 1993, without a step back: after a change of sign the gradient counts as 0.
template <class T> struct Rprop {
    T eta_minus, eta_plus, step_min, step_max;

    void operator()(T& w, const T& g, T& prev, T& size) const {
        const T product = g * prev;
        const T factor = product > 0 ? eta_plus : product < 0 ? eta_minus : product == 0 ? T(1) : product;
        const T scaled = size * factor, raised = scaled < step_min ? step_min : scaled;
        size = raised > step_max ? step_max : raised;
        prev = product < 0 ? T(0) : g;
        w -= (prev > 0 ? T(1) : prev < 0 ? T(-1) : prev) * size;
    }
};

}  // namespace
