// The passes of a step over the tiles of its arrays.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "compensated.hpp"
#include "dispatch.hpp"
#include "float_mode.hpp"
#include "parallel.hpp"
#include "step_rows.hpp"
#include "strided.hpp"

namespace fusedstep {
namespace {

constexpr std::int64_t kTaskTiles = 16;  // enough to hide what handing out a task costs

// Elements that are converted at once. While a processor waits for memory in one stage it can begin the next, if that
// is not too far: Adam on 40 million bfloat16 takes 0.8 of the time that it takes with whole tiles.
constexpr std::int64_t kStrip = 512;

bool all_finite(int arithmetic, std::int64_t n, const void* values) {
    const auto is_finite = [](auto value) { return std::isfinite(value); };
    if (arithmetic == kFloat32) {
        const float* const floats = static_cast<const float*>(values);
        return std::all_of(floats, floats + n, is_finite);
    }
    const double* const doubles = static_cast<const double*>(values);
    return std::all_of(doubles, doubles + n, is_finite);
}

double compensated_sum(const double* terms, std::int64_t n) {
    double high = 0, low = 0;
    for (std::int64_t i = 0; i < n; ++i) compensated_add(high, low, terms[i]);
    return std::isfinite(high) ? high + low : high;
}

}  // namespace

// Calls run(data, begin, n) for elements begin to begin + n of an array; or, where only some of its rows take part, for
// each part of them that is in one row, `data` being the row's.
template <class Run>
void Step::for_each_segment(const Item& item, int array, std::int64_t begin, std::int64_t n, const Run& run) {
    char* const data = item.data[array];
    if (!item.has_rows() || array == kGradient) return run(data, begin, n);
    const Extra& extra = *item.extra;
    for (const std::int64_t end = begin + n; begin < end;) {
        const std::int64_t row = begin / extra.row_size, from = begin - row * extra.row_size;
        const std::int64_t count = std::min(end - begin, extra.row_size - from);
        run(data + extra.rows.numbers[row] * extra.row_strides[array], from, count);
        begin += count;
    }
}

void Step::load_array(const Item& item, int array, std::int64_t begin, std::int64_t n, void* row) {
    const int storage = item.storage[array], arithmetic = item.program->arithmetic;
    const Extents* const strides = item.strides(array);
    char* to = static_cast<char*>(row);
    for_each_segment(item, array, begin, n, [&](const char* data, std::int64_t first, std::int64_t count) {
        if (strides)
            gather(item.extra->geometry.shape, *strides, data, storage, first, count, arithmetic, to);
        else
            table().load[storage][arithmetic](count, data + first * size_of(storage), to);
        to += count * size_of(arithmetic);
    });
}

void Step::store_array(const Item& item, int array, std::int64_t begin, std::int64_t n, const void* row) {
    const int storage = item.storage[array], arithmetic = item.program->arithmetic;
    const Extents* const strides = item.strides(array);
    alignas(64) char rounded[kTile * sizeof(double)];
    if (item.extra && has(item.extra->stochastic, array)) {
        char narrow[kTile * sizeof(std::uint16_t)];
        Randomness randomness = item.extra->randomness;
        const bool is_parameter = array == kParameter || array == kNarrow;
        randomness.slot = is_parameter ? 1 : static_cast<std::uint32_t>(2 + array - kState);
        table().store_randomly[storage][arithmetic](begin, n, row, narrow, randomness);
        if (!strides && !item.has_rows()) {
            std::memcpy(item.data[array] + begin * size_of(storage), narrow,
                        static_cast<std::size_t>(n * size_of(storage)));
            return;
        }
        table().load[storage][arithmetic](n, narrow, rounded);
        row = rounded;
    }
    const char* from = static_cast<const char*>(row);
    for_each_segment(item, array, begin, n, [&](char* data, std::int64_t first, std::int64_t count) {
        if (strides)
            scatter(item.extra->geometry.shape, *strides, data, storage, first, count, arithmetic, from);
        else
            table().store[storage][arithmetic](count, from, data + first * size_of(storage));
        from += count * size_of(arithmetic);
    });
}

void Step::copy_gradient(Item& item) {
    if (!item.extra || !item.extra->gradient_copy || item.data[kGradient] == item.extra->gradient_copy.get()) return;
    const FloatMode mode;  // it may be converted
    char* const copy = item.extra->gradient_copy.get();
    const int arithmetic = item.program->arithmetic;
    for (std::int64_t begin = 0; begin < item.size; begin += kTile)
        load_array(item, kGradient, begin, std::min(kTile, item.size - begin), copy + begin * size_of(arithmetic));
    item.data[kGradient] = copy;
    item.storage[kGradient] = static_cast<std::uint8_t>(arithmetic);
    item.direct |= 1u << kGradient;
    item.strided &= ~(1u << kGradient);
}

void Step::run_part(const Item& item, int number, std::int64_t begin, std::int64_t end) {
    constexpr std::int64_t kZeroedTiles = 4;  // whose gradient is still in the first cache
    const Program& program = *item.program;
    const Program::Pass& pass = program.pass[number];
    const bool ends = number == program.passes - 1, zeroes = ends && item.zeroes_gradient && !zeroes_last_;
    if (program.factored.is_set && number == 0) return add_update_squares(item, begin, end);
    // One stage needs no tiles where nothing has to be loaded.
    const unsigned direct = item.has_rows() ? item.direct | item.extra->direct_rows : item.direct;
    if ((pass.used & ~direct) != 0 || pass.end - pass.first != 1 || pass.square_count != 0 || pass.unstored != 0 ||
        (ends && (item.outputs != 0 || measure_ == Measure::kParameters)) || (zeroes && item.strides(kGradient))) {
        run_tiles(item, number, begin, end);
        return;
    }
    const auto run = item.has_rows() ? run_rows : run_whole;
    const std::int64_t most = zeroes ? kZeroedTiles * kTile : end - begin;
    for (std::int64_t n; begin < end; begin += n) {
        n = std::min(most, end - begin);
        run(item, program.calls[pass.first], begin, begin + n);
        if (zeroes) zero_gradient(item, begin, n);
    }
}

void Step::run_rows(const Item& item, const Call& call, std::int64_t begin, std::int64_t end) {
    const Extra& extra = *item.extra;
    const int arithmetic = item.program->arithmetic;
    for (std::int64_t n; begin < end; begin += n) {
        const std::int64_t row = begin / extra.row_size, from = begin - row * extra.row_size;
        n = std::min(end - begin, extra.row_size - from);
        void* operands[kMaxOperands];
        for (int i = 0; i < call.operand_count; ++i) {
            const int operand = call.operands[i];
            const bool is_merged = operand == kGradient;
            const std::int64_t first = is_merged ? 0 : extra.rows.numbers[row] * extra.row_strides[operand];
            operands[i] = item.data[operand] + first + (is_merged ? begin : from) * size_of(arithmetic);
        }
        call.run[arithmetic](n, call.coefficients, operands);
    }
}

void Step::run_whole(const Item& item, const Call& call, std::int64_t begin, std::int64_t end) {
    const int arithmetic = item.program->arithmetic;
    void* operands[kMaxOperands];
    for (int i = 0; i < call.operand_count; ++i)
        operands[i] = item.data[call.operands[i]] + begin * size_of(arithmetic);
    call.run[arithmetic](end - begin, call.coefficients, operands);
}

void Step::run_tiles(const Item& item, int number, std::int64_t begin, std::int64_t end) {
    const Program& program = *item.program;
    const Program::Pass& pass = program.pass[number];
    const bool ends = number == program.passes - 1;
    const bool measures = ends && measure_ == Measure::kParameters && !item.has_rows();
    const bool zeroes = ends && item.zeroes_gradient && !zeroes_last_;
    const bool converts = (pass.used & ~item.direct) != 0;
    const std::int64_t step = pass.square_count == 0 && !measures && !item.extra && converts ? kStrip : kTile;
    const unsigned stored = pass.written & ~item.direct & ~pass.unstored & ((1u << kTemporary) - 1);
    const unsigned outputs = ends ? item.outputs : 0;
    Rows rows(item);
    for (; begin < end; begin += step) {
        const std::int64_t n = std::min(step, end - begin);
        rows.load(pass.used, begin, n, pass.unstored);
        for (const Call* call = program.calls + pass.first; call != program.calls + pass.end; ++call) rows.run(*call);
        for (int i = 0; i < pass.square_count; ++i)
            item.extra->squares[tiles_of(item.size) * i + begin / kTile] =
                table().sum_of_squares[program.arithmetic](n, rows[pass.squares[i]]);
        for (int operand = 0; stored >> operand != 0; ++operand)
            if (has(stored, operand)) store_array(item, operand, begin, n, rows[operand]);
        if (measures) measure(item, begin, n, rows[kParameter]);
        for (int array = kTemporary; outputs >> array != 0; ++array)
            if (has(outputs, array)) store_array(item, array, begin, n, rows[kParameter]);
        if (zeroes) zero_gradient(item, begin, n);
    }
}

void Step::zero_gradient(const Item& item, std::int64_t begin, std::int64_t n) {
    alignas(64) static constexpr double zeros[kTile] = {};
    if (item.strides(kGradient))
        store_array(item, kGradient, begin, n, zeros);
    else
        std::memset(item.data[kGradient] + begin * size_of(item.storage[kGradient]), 0,
                    static_cast<std::size_t>(n * size_of(item.storage[kGradient])));
}

// Calls run(item, begin, end) for parts of items. bytes_of: that an element moves; 0 for an item that takes no part.
template <class BytesOf, class Run>
void Step::run_parts(Item* first, Item* last, const BytesOf& bytes_of, const Run& run) {
    std::int64_t total = 0, bytes = 0;
    for (Item* item = first; item != last; ++item) {
        const std::int64_t each = item->size == 0 ? 0 : bytes_of(*item);
        if (each != 0) total += tiles_of(item->size);
        bytes += item->size * each;
        item->end = total;
    }
    parallel_for((total + kTaskTiles - 1) / kTaskTiles, bytes, [&](std::int64_t task) {
        const FloatMode mode;
        std::int64_t begin = task * kTaskTiles;
        const std::int64_t end = std::min(begin + kTaskTiles, total);
        const Item* item =
            std::upper_bound(first, last, begin, [](std::int64_t tile, const Item& each) { return tile < each.end; });
        for (; begin < end; ++item) {
            const std::int64_t start = item == first ? 0 : (item - 1)->end, stop = std::min(item->end, end);
            if (stop == start) continue;
            run(*item, (begin - start) * kTile, std::min((stop - start) * kTile, item->size));
            begin = stop;
        }
    });
}

void Step::run_pass(Item* first, Item* last, int number) {
    run_parts(
        first, last,
        [=](const Item& item) {
            const bool made = number == 0 && item.program->waits_for_caller();
            return number < item.program->passes && !made ? item.bytes : 0;
        },
        [=](const Item& item, std::int64_t begin, std::int64_t end) { run_part(item, number, begin, end); });
    for (Item* item = first; item != last; ++item) {
        const bool took_part = item->size != 0 && number < item->program->passes;
        if (!took_part || !item->program->between || number == item->program->passes - 1) continue;
        const FloatMode mode;
        double totals[kMaxOperands];
        const std::int64_t tiles = tiles_of(item->size);
        for (int i = 0; i < item->program->pass[number].square_count; ++i)
            totals[i] = compensated_sum(item->extra->squares.get() + tiles * i, tiles);
        item->extra->own_program->between(*item->extra->own_program, number, totals);
    }
}

void Step::run_passes(Item* first, Item* last) {
    int passes = 0;
    bool has_factors = false;
    for (Item* item = first; item != last; ++item) {
        copy_gradient(*item);
        if (item->extra && item->extra->own_program) {
            *item->extra->own_program = *item->extra->program;
            item->extra->own_program->size = item->size;
            has_factors = has_factors || item->extra->factors;
        }
        passes = std::max(passes, item->program->passes);
    }
    if (has_factors) run_factors(first, last);
    for (int pass = 0; pass < passes; ++pass) run_pass(first, last, pass);
}

void Step::run_first(Item* first, Item* last) {
    for (Item* item = first; item != last; ++item)
        if (item->program->waits_for_caller()) copy_gradient(*item);
    run_parts(
        first, last, [](const Item& item) { return item.program->waits_for_caller() ? item.bytes : 0; },
        [this](const Item& item, std::int64_t begin, std::int64_t end) { run_part(item, 0, begin, end); });
}

void Step::run_first() {
    run_first(items_.data(), items_.data() + items_.size());
}

void Step::run() {
    if (!sequential_)
        run_passes(items_.data(), items_.data() + items_.size());
    else
        for (std::size_t i = 0; i < items_.size(); ++i) run_one(i);
    if (zeroes_last_) zero_gradients();
}

void Step::run_one(std::size_t number) {
    run_passes(&items_[number], &items_[number] + 1);
}

void Step::zero_gradients() {
    run_parts(
        items_.data(), items_.data() + items_.size(),
        [](const Item& item) { return item.zeroes_gradient ? size_of(item.storage[kGradient]) : 0; },
        [](const Item& item, std::int64_t begin, std::int64_t end) {
            for (; begin < end; begin += kTile) zero_gradient(item, begin, std::min(kTile, end - begin));
        });
}

void Step::measure(const Item& item, std::int64_t begin, std::int64_t n, const void* row) {
    const int arithmetic = item.program->arithmetic;
    const double square = table().sum_of_squares[arithmetic](n, row);
    squares_[first_tiles_[static_cast<std::size_t>(&item - items_.data())] + begin / kTile] = square;
    if (!std::isfinite(square) && !all_finite(arithmetic, n, row)) is_finite_.store(false, std::memory_order_relaxed);
}

Norm Step::norm_of_gradients() {
    run_parts(
        items_.data(), items_.data() + items_.size(), [](const Item& item) { return size_of(item.storage[kGradient]); },
        [this](const Item& item, std::int64_t begin, std::int64_t end) {
            const Program& program = *item.program;
            Rows rows(item);
            for (; begin < end; begin += kTile) {
                const std::int64_t n = std::min(kTile, end - begin);
                rows.load(1u << kGradient, begin, n, program.unclipped > 0 ? 1u << kGradient : 0);
                for (int i = 0; i < program.unclipped; ++i) rows.run(program.calls[i]);
                measure(item, begin, n, rows[kGradient]);
            }
        });
    return norm();
}

double norm_of_squares(const double* squares, std::int64_t n) {
    const FloatMode mode;
    return std::sqrt(compensated_sum(squares, n));
}

Norm Step::norm() const {
    return {norm_of_squares(squares_.get(), tiles_), is_finite_.load(std::memory_order_relaxed)};
}

}  // namespace fusedstep
