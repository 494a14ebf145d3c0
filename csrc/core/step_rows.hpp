// The rows of a tile, as the passes of a step load them.
#pragma once

#include <cstddef>

#include "step.hpp"

namespace fusedstep {

// A tile of an item as rows that stages run over: the arrays themselves, or scratch that they are loaded into.
class Step::Rows {
  public:
    explicit Rows(const Item& item) : item_(item) {}

    // unstored: operands that are changed in scratch alone.
    void* load(int operand, std::int64_t begin, std::int64_t n, unsigned unstored) {
        if (operand >= kTemporary) return scratch_[operand];
        if (has(item_.direct & ~unstored, operand))
            return item_.data[operand] + begin * size_of(item_.program->arithmetic);
        load_array(item_, operand, begin, n, scratch_[operand]);
        return scratch_[operand];
    }

  private:
    // Rows a multiple of 4 KiB apart would map to the same cache sets, and loads would wait for stores to another row.
    static constexpr std::size_t kRowPadding = 5 * 64;

    const Item& item_;
    alignas(64) char scratch_[kMaxOperands][kTile * sizeof(double) + kRowPadding];
};

}  // namespace fusedstep
