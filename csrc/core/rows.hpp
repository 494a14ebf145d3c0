// Gradients that have some rows of a matrix only.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "arrays.hpp"

namespace fusedstep {

// Uninitialised memory, which is kept for the next request: malloc returns blocks of this size to the system, and the
// page faults of new ones take longer than a step.
class RowMemory {
  public:
    RowMemory() = default;
    explicit RowMemory(std::size_t bytes);
    RowMemory(RowMemory&& other) = default;
    RowMemory& operator=(RowMemory&& other) = default;
    ~RowMemory();

    char* get() const { return memory_.get(); }

  private:
    std::unique_ptr<char[]> memory_;
    std::size_t bytes_ = 0;
};

struct MergedRows {
    std::vector<std::int64_t> numbers;  // ascending, each once
    RowMemory values;                   // of the arithmetic's type, without gaps
};

// Adds up the rows of the same number in their order, from zeros. values: has a row for each of `count` numbers.
MergedRows merge_rows(const std::int64_t* numbers, std::int64_t count, const View& values, int arithmetic);

// Adds each row of values to the row of a matrix that has its number, in their order, computed in the wider of their
// types. Values that share memory with the matrix are copied first; the numbers share none.
void add_rows(const View& matrix, const std::int64_t* numbers, std::int64_t count, const View& values);

}  // namespace fusedstep
