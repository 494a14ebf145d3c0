// What a step does around the rule of the optimizer, each formula for one element.
#pragma once

// A stage is its coefficients, in the order in which they are given, and a call operator whose arguments say which
// operands it reads (const T&) and which it writes (T&). How coefficients follow from lr, beta, ... is the affair of
// core/rules_*.cpp. fusedstep.reference states the same operations in the same order; the bits depend on that order.
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

// After the rule. A factor 1 - decay would be rounded, by as much in each step.
template <class T> struct Decay {
    T decay;

    void operator()(T& w) const { w -= decay * w; }
};

// After the rule, of the weight before it, where it has not moved the weight away from zero (Chen et al. 2025).
template <class T> struct DecayCautiously {
    T decay;

    void operator()(T& w, const T& before) const {
        const T moved = w - before;
        const bool grows = (moved > 0 && before > 0) || (moved < 0 && before < 0);
        w = grows ? w : w - decay * before;
    }
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

}  // namespace
