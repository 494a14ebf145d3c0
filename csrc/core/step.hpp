// One step of an optimizer over a list of parameters.
#pragma once

#include <vector>

#include "strided.hpp"
#include "table.hpp"

namespace fusedstep {

// A parameter with what its update needs. Element i of each array belongs to element i of the parameter.
struct UpdateItem {
    std::int64_t size;
    int type;                             // of the parameter and its state
    Extents shape;                        // for the arrays that have strides
    StridedArray arrays[2 + kMaxStates];  // the parameter, its gradient, its state
    void* gradient_copy = nullptr;        // room for the gradient where it must be copied before the first write
};

// The item of a parameter, its gradient and its state, all of one shape and not empty. Elements are visited in the
// order in which the parameter has them in memory.
UpdateItem update_item(const std::vector<View>& arrays);

// coefficients: the rule's, then the weight decay if l2. `in_order`: each item is done before the next begins, because
// one's arrays overlap another's; else all are done in one parallel region.
void update(const UpdateRule& rule, bool l2, const double* coefficients, std::vector<UpdateItem>& items, bool in_order);

}  // namespace fusedstep
