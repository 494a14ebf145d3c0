// Sums whose rounding errors are kept beside them.
#pragma once

// Without a name for the reason given in stages_around.hpp.
namespace {

// Adds a term to high + low, where low is what roundings have cut off so far (Neumaier 1974, in Knuth's branchless
// form).
inline void compensated_add(double& high, double& low, double term) {
    const double total = high + term, part = total - high;
    low += (high - (total - part)) + (term - part);
    high = total;
}

}  // namespace
