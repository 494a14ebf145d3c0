// Adafactor (Shazeer & Stern 2018): a second moment is the product of one of its row and one of its column.
#pragma once

// Without a name for the reason given in stages_around.hpp.
namespace {

// r and c are roots of moments. The row's is a coefficient, as stages run over elements of one row.
template <class T> T factored_update(T floor, T g, T r, T c) {
    const T root = r * c;
    return g / (root < floor ? floor : root);
}

// keep = 1 - lr * weight_decay; step: of which the update has been clipped.
template <class T> struct Adafactor {
    T r, floor, keep, step;

    void operator()(T& w, const T& g, const T& c) const { w = keep * w - step * factored_update(floor, g, r, c); }
};

// c1 = 1 - beta1
template <class T> struct AdafactorMomentum {
    T r, floor, keep, step, c1;

    void operator()(T& w, const T& g, const T& c, T& m) const {
        m += c1 * (step * factored_update(floor, g, r, c) - m);
        w = keep * w - m;
    }
};

}  // namespace
