// The rows of a tile, as the passes of a step load them.
#pragma once

#include <algorithm>
#include <cstddef>

#include "step.hpp"

namespace fusedstep {

// A tile of an item as rows that stages run over: the arrays themselves, or scratch that they are loaded into.
class Step::Rows {
  public:
    explicit Rows(const Item& item) : item_(item), item_size_(size_of(item.program->arithmetic)) {}

    // Loads the operands in `used`, a bit each, of a tile. unstored: those that are changed in scratch alone.
    void load(unsigned used, std::int64_t begin, std::int64_t n, unsigned unstored) {
        begin_ = begin;
        n_ = n;
        for (int operand = 0; used >> operand != 0; ++operand) {
            if (!has(used, operand)) continue;
            at_[operand] = scratch_[operand];
            if (has(item_.direct & ~unstored, operand))
                at_[operand] = item_.data[operand] + begin * item_size_;
            else if (operand < kTemporary && !(has(kFactored, operand) && item_.extra && item_.extra->factors))
                load_array(item_, operand, begin, n, at_[operand]);
        }
    }

    char* operator[](int operand) const { return at_[operand]; }

    // Runs a call over the tile.
    void run(const Call& call) {
        void* operands[kMaxOperands];
        if (!call.takes_roots) {
            for (int i = 0; i < call.operand_count; ++i) operands[i] = at_[call.operands[i]];
            return call.run[item_.program->arithmetic](n_, call.coefficients, operands);
        }
        double coefficients[kMaxCoefficients];
        std::copy_n(call.coefficients, call.coefficient_count, coefficients);
        for_each_root([&](const Factors::Roots& roots, std::int64_t from) {
            for (int i = 0; i < call.operand_count; ++i)
                operands[i] =
                    call.operands[i] == kColumnRoots ? roots.columns : at_[call.operands[i]] + from * item_size_;
            coefficients[call.first_own()] = roots.row;
            call.run[item_.program->arithmetic](roots.n, coefficients, operands);
        });
    }

    // Calls use(roots, from) for parts of the tile that begin at its element `from`.
    template <class Use> void for_each_root(const Use& use) {
        for (std::int64_t from = 0; from < n_;) {
            const Factors::Roots roots = item_.extra->factors->roots(begin_ + from, n_ - from, scratch_[kColumnRoots]);
            use(roots, from);
            from += roots.n;
        }
    }

  private:
    // Rows a multiple of 4 KiB apart would map to the same cache sets, and loads would wait for stores to another row.
    static constexpr std::size_t kRowPadding = 5 * 64;

    const Item& item_;
    const std::int64_t item_size_;
    std::int64_t begin_ = 0, n_ = 0;
    char* at_[kMaxOperands];
    alignas(64) char scratch_[kMaxOperands][kTile * sizeof(double) + kRowPadding];
};

}  // namespace fusedstep
