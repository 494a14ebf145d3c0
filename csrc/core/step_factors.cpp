// The pass of a step that takes moments of rows and columns, before its other passes.
#include <algorithm>
#include <cmath>

#include "compensated.hpp"
#include "dispatch.hpp"
#include "float_mode.hpp"
#include "parallel.hpp"
#include "reductions.hpp"
#include "step_rows.hpp"

namespace fusedstep {

// The sums of squares of some rows, and of the columns in them, of a gradient after the stages around the rule.
void Step::add_squares(const Item& item, std::int64_t task) {
    constexpr std::int64_t kRowsAtOnce = 8;  // that share the loads and stores of sums of columns
    const Program& program = *item.program;
    const int arithmetic = program.arithmetic;
    const Call *const calls = program.calls + program.pass[0].first, *const end = program.calls + program.pass[0].end;
    Factors& factors = *item.extra->factors;
    unsigned used = 1u << kGradient, written = 0;
    for (const Call* call = calls; call != end; ++call) {
        written |= call->written;
        for (int i = 0; i < call->operand_count; ++i) used |= 1u << call->operands[i];
    }
    const bool in_place = calls == end && has(item.direct, kGradient);
    const std::int64_t columns = factors.columns(), width = std::min(kTile, columns);
    const std::int64_t at_once = in_place && columns > kTile ? kRowsAtOnce : kTile / width;
    const Factors::Range range = factors.rows_of(task);
    factors.clear_column_sums(range);
    Rows rows(item);
    for (std::int64_t row = range.first, count; row < range.end; row += count) {
        count = std::min(at_once, range.end - row);
        double high[kRowsAtOnce] = {}, low[kRowsAtOnce] = {};
        for (std::int64_t from = 0; from < columns; from += width) {
            const std::int64_t n = std::min(width, columns - from), pitch = in_place ? columns : n;
            rows.load(used, row * columns + from, count * n, written);
            for (const Call* call = calls; call != end; ++call) rows.run(*call);
            for (std::int64_t i = 0, part; i < count; i += part) {
                part = std::min(count - i, factors.rows_left(row + i));
                double squares[kRowsAtOnce];
                table().add_squares[arithmetic](part, n, rows[kGradient] + i * pitch * size_of(arithmetic), pitch,
                                                factors.column_sums(row + i) + from,
                                                columns > kTile ? squares : factors.row_sum(row + i));
                for (std::int64_t k = 0; k < part && columns > kTile; ++k)
                    compensated_add(high[i + k], low[i + k], squares[k]);
            }
        }
        for (std::int64_t i = 0; i < count && columns > kTile; ++i)
            *factors.row_sum(row + i) = std::isfinite(high[i]) ? high[i] + low[i] : high[i];
    }
}

// The sums of squares of tiles of the parameter and of its update.
void Step::add_update_squares(const Item& item, std::int64_t begin, std::int64_t end) {
    const Program& program = *item.program;
    const Program::Pass& pass = program.pass[0];
    const int arithmetic = program.arithmetic;
    double* const squares = item.extra->squares.get();
    Rows rows(item);
    for (; begin < end; begin += kTile) {
        rows.load(pass.used | 1u << kGradient, begin, std::min(kTile, end - begin), pass.unstored);
        for (const Call* call = program.calls + pass.first; call != program.calls + pass.end; ++call) rows.run(*call);
        double lanes[2][kSumLanes] = {};
        rows.for_each_root([&](const Factors::Roots& roots, std::int64_t from) {
            table().add_update_squares[arithmetic](
                roots.n, program.factored.floor, roots.row, rows[kParameter] + from * size_of(arithmetic),
                rows[kGradient] + from * size_of(arithmetic), roots.columns, lanes[0]);
        });
        for (int i = 0; i < 2; ++i) squares[tiles_of(item.size) * i + begin / kTile] = sum_of_lanes(lanes[i]);
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
