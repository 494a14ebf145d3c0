// The pass of a step that takes moments of rows and columns, before its other passes.
#include <algorithm>
#include <cmath>

#include "compensated.hpp"
#include "dispatch.hpp"
#include "float_mode.hpp"
#include "parallel.hpp"
#include "step_rows.hpp"

namespace fusedstep {

// The sums of squares of some rows, and of the columns in them, of a gradient after all stages but the rule's own.
void Step::add_squares(const Item& item, std::int64_t task) {
    const Program& program = *item.program;
    const Call* const calls = program.calls + program.pass[0].first;
    const Call* const last = program.calls + program.pass[0].end - 1;
    Factors& factors = *item.extra->factors;
    unsigned used = 1u << kGradient, written = 0;
    for (const Call* call = calls; call != last; ++call) {
        written |= call->written;
        for (int i = 0; i < call->operand_count; ++i) used |= 1u << call->operands[i];
    }
    const std::int64_t columns = factors.columns(), width = std::min(kTile, columns),
                       item_size = size_of(program.arithmetic);
    const Factors::Range range = factors.rows_of(task);
    factors.clear_column_sums(range);
    Rows rows(item);
    for (std::int64_t row = range.first, count; row < range.end; row += count) {
        count = std::min(kTile / width, range.end - row);
        double high = 0, low = 0;
        for (std::int64_t from = 0; from < columns; from += width) {
            const std::int64_t most = std::min(width, columns - from), n = count * most;
            void* at[kMaxOperands];
            for (int operand = 0; used >> operand != 0; ++operand)
                if (has(used, operand)) at[operand] = rows.load(operand, row * columns + from, n, written);
            for (const Call* call = calls; call != last; ++call) {
                void* operands[kMaxOperands];
                for (int i = 0; i < call->operand_count; ++i) operands[i] = at[call->operands[i]];
                call->run[program.arithmetic](n, call->coefficients, operands);
            }
            for (std::int64_t i = 0; i < count; ++i) {
                const char* const values = static_cast<char*>(at[kGradient]) + i * most * item_size;
                table().add_squares[program.arithmetic](most, values, factors.column_sums(row + i) + from);
                if (!factors.has_rows()) continue;
                const double square = table().sum_of_squares[program.arithmetic](most, values);
                if (columns <= kTile)
                    *factors.row_sum(row + i) = square;
                else
                    compensated_add(high, low, square);
            }
        }
        if (columns > kTile) *factors.row_sum(row) = std::isfinite(high) ? high + low : high;
    }
}

// New moments of rows and columns, and their roots.
void Step::run_factors(Item* first, Item* last) {
    std::int64_t total = 0, bytes = 0;
    for (Item* item = first; item != last; ++item) {
        const bool takes_part = item->size != 0 && item->program->factored.is_set;
        if (takes_part) {
            total += item->extra->factors->tasks();
            bytes += item->size * size_of(item->storage[kGradient]);
        }
        item->end = total;
    }
    parallel_for(total, bytes, [=](std::int64_t task) {
        const FloatMode mode;
        const Item* const item = std::upper_bound(
            first, last, task, [](std::int64_t number, const Item& each) { return number < each.end; });
        add_squares(*item, task - (item == first ? 0 : (item - 1)->end));
    });
    parallel_for(last - first, bytes, [=](std::int64_t number) {
        const Item& item = first[number];
        if (item.size == 0 || !item.program->factored.is_set) return;
        const FloatMode mode;
        item.extra->factors->update(item.program->factored, item.extra->stochastic, item.extra->randomness);
    });
}

}  // namespace fusedstep
