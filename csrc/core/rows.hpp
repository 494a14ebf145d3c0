// Gradients that have some rows of a matrix only.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "arrays.hpp"

namespace fusedstep {

struct MergedRows {
    std::vector<std::int64_t> numbers;  // ascending, each once
    std::unique_ptr<char[]> values;     // of the arithmetic's type, without gaps
};

// Adds up the rows of the same number in their order, from zeros. values: has a row for each of `count` numbers.
MergedRows merge_rows(const std::int64_t* numbers, std::int64_t count, const View& values, int arithmetic);

}  // namespace fusedstep
