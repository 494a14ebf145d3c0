// The formulas of a step, each for one element: the rules of the optimizers, and what a step does around them.
#pragma once

#include <cmath>
#include <cstdint>

// A stage is its coefficients, in the order in which they are given, and a call operator whose arguments say which
// operands it reads (const T&) and which it writes (T&). How coefficients follow from lr, beta, ... is the affair of
// core/rules.cpp. fusedstep.reference states the same operations in the same order; the bits depend on that order.
//
// The namespace has no name so that each instruction set's object file keeps its own copy of every function.
namespace {

template <class T> struct Scale {
    T factor;

    void operator()(T& g) const { g *= factor; }
};

// A NaN goes through.
template <class T> struct Clip {
    T bound;

    void operator()(T& g) const { g = g > bound ? bound : g < -bound ? -bound : g; }
};

// L2 weight decay: adds the gradient of decay / 2 * w^2.
template <class T> struct AddDecay {
    T decay;

    void operator()(T& g, const T& w) const { g += decay * w; }
};

// Decoupled weight decay (Loshchilov & Hutter 2019): keep = 1 - lr * weight_decay.
template <class T> struct Shrink {
    T keep;

    void operator()(T& w) const { w *= keep; }
};

// An exponential moving average of the weights: c = 1 - decay.
template <class T> struct Average {
    T c;

    void operator()(T& mean, const T& w) const { mean += c * (w - mean); }
};

// A rule after another stage, in one loop. The caller's gradient stays as it is.
template <class T, template <class> class Rule> struct AfterScale {
    Scale<T> first;
    Rule<T> rule;

    template <class... State> void operator()(T& w, T g, State&... state) const {
        first(g);
        rule(w, g, state...);
    }
};

template <class T, template <class> class Rule> struct AfterAddDecay {
    AddDecay<T> first;
    Rule<T> rule;

    template <class... State> void operator()(T& w, T g, State&... state) const {
        first(g, w);
        rule(w, g, state...);
    }
};

template <class T, template <class> class Rule> struct AfterShrink {
    Shrink<T> first;
    Rule<T> rule;

    template <class... State> void operator()(T& w, const T& g, State&... state) const {
        first(w);
        rule(w, g, state...);
    }
};

// A rule between a scale and an average.
template <class T, template <class> class Rule> struct WithAverage {
    Scale<T> first;
    Rule<T> rule;
    Average<T> last;

    template <class... State> void operator()(T& mean, T& w, T g, State&... state) const {
        first(g);
        rule(w, g, state...);
        last(mean, w);
    }
};

template <class T> struct Assign {
    void operator()(T& to, const T& from) const { to = from; }
};

template <class T> struct Exchange {
    void operator()(T& a, T& b) const {
        const T before = a;
        a = b;
        b = before;
    }
};

template <class T> struct Accumulate {
    T factor;

    void operator()(T& sum, const T& g) const { sum += factor * g; }
};

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

// Kingma & Ba 2015: step and the epsilons carry the bias corrections, c = 1 - beta.
template <class T> struct Adam {
    T step, c1, c2, eps_inside, eps_outside;

    void operator()(T& w, const T& g, T& m, T& v) const {
        m += c1 * (g - m);
        v += c2 * (g * g - v);
        w -= step * m / (std::sqrt(v + eps_inside) + eps_outside);
    }
};

// Every stage, with the name by which core/rules.cpp calls it; rules also beside others.
template <class List> constexpr void list_stages(List& list) {
    list.template stage<Scale>("scale");
    list.template stage<AddDecay>("add_decay");
    list.template stage<Shrink>("shrink");
    list.template stage<Clip>("clip");
    list.template stage<Average>("average");
    list.template stage<Assign>("assign");
    list.template stage<Exchange>("exchange");
    list.template stage<Accumulate>("accumulate");
    list.template rule<Sgd>("sgd");
    list.template rule<Momentum>("momentum");
    list.template rule<MomentumPlainVelocity>("momentum_plain_velocity");
    list.template rule<Nesterov>("nesterov");
    list.template rule<NesterovNewVelocity>("nesterov_new_velocity");
    list.template rule<AdaGrad>("adagrad");
    list.template rule<RmsProp>("rmsprop");
    list.template rule<Adam>("adam");
}

}  // namespace
