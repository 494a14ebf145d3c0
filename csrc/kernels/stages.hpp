// The formulas of the optimizers: one struct per rule, the update of one weight.
#pragma once

#include <cmath>

// A rule is its coefficients, in the order in which the caller gives them, and a call operator that updates one weight
// w with its gradient g and the rule's state. How the coefficients follow from lr, beta, ... is the caller's affair.
// fusedstep.reference states the same operations in the same order; the bits depend on that order.
//
// The namespace has no name so that each instruction set's object file keeps its own copy of every function.
namespace {

// w -= lr g
template <class T> struct Sgd {
    static constexpr int states = 0;
    T lr;

    void operator()(T& w, T g) const { w -= lr * g; }
};

// Polyak 1964 with the learning rate in the velocity, as in the book.
template <class T> struct Momentum {
    static constexpr int states = 1;
    T lr, a;

    void operator()(T& w, T g, T& v) const {
        v = a * v - lr * g;
        w += v;
    }
};

// The same with the learning rate outside the velocity, as on the slides and in PyTorch.
template <class T> struct MomentumPlainVelocity {
    static constexpr int states = 1;
    T lr, a;

    void operator()(T& w, T g, T& v) const {
        v = a * v + g;
        w -= lr * v;
    }
};

// Nesterov's method in the form of Bengio et al. 2013: aa = a^2, step = (1 + a) lr.
template <class T> struct Nesterov {
    static constexpr int states = 1;
    T lr, a, aa, step;

    void operator()(T& w, T g, T& v) const {
        w += aa * v;
        w -= step * g;
        v = a * v - lr * g;
    }
};

// The same with the new velocity in the step, as in the book's older editions.
template <class T> struct NesterovNewVelocity {
    static constexpr int states = 1;
    T lr, a, aa, step;

    void operator()(T& w, T g, T& v) const {
        v = a * v - lr * g;
        w += aa * v;
        w -= step * g;
    }
};

// Duchi et al. 2011, diagonal.
template <class T> struct AdaGrad {
    static constexpr int states = 1;
    T lr, eps_inside, eps_outside;

    void operator()(T& w, T g, T& h) const {
        h += g * g;
        w -= lr * g / (std::sqrt(h + eps_inside) + eps_outside);
    }
};

// Tieleman & Hinton 2012: c = 1 - decay_rate.
template <class T> struct RmsProp {
    static constexpr int states = 1;
    T lr, decay, c, eps_inside, eps_outside;

    void operator()(T& w, T g, T& h) const {
        h *= decay;
        h += c * g * g;
        w -= lr * g / (std::sqrt(h + eps_inside) + eps_outside);
    }
};

// Kingma & Ba 2015: step and the epsilons carry the bias corrections, c = 1 - beta.
template <class T> struct Adam {
    static constexpr int states = 2;
    T step, c1, c2, eps_inside, eps_outside;

    void operator()(T& w, T g, T& m, T& v) const {
        m += c1 * (g - m);
        v += c2 * (g * g - v);
        w -= step * m / (std::sqrt(v + eps_inside) + eps_outside);
    }
};

// Loshchilov & Hutter 2019: keep = 1 - lr * weight_decay.
template <class T> struct AdamW : Adam<T> {
    T keep;

    void operator()(T& w, T g, T& m, T& v) const {
        w *= keep;
        Adam<T>::operator()(w, g, m, v);
    }
};

// Any rule with L2 weight decay, the gradient of decay / 2 * w^2 added to g.
template <class T, template <class> class Rule> struct L2 : Rule<T> {
    T decay;

    template <class... State> void operator()(T& w, T g, State&... state) const {
        Rule<T>::operator()(w, g + decay * w, state...);
    }
};

// No rules: what benchmarks call the limit, the reads and writes of a rule with one or two states and next to no
// arithmetic. With no state it is Sgd.
template <class T> struct Limit1 {
    static constexpr int states = 1;
    T c;

    void operator()(T& w, T g, T& v) const {
        v += c * g;
        w += c * g;
    }
};

template <class T> struct Limit2 {
    static constexpr int states = 2;
    T c;

    void operator()(T& w, T g, T& m, T& v) const {
        m += c * g;
        v += c * g;
        w += c * g;
    }
};

}  // namespace
