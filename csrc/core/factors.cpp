#include "factors.hpp"

#include <algorithm>
#include <cmath>

#include "dispatch.hpp"
#include "strided.hpp"

namespace fusedstep {
namespace {

constexpr std::int64_t kTaskElements = 16 * kTile;
constexpr std::int64_t kMostBlocks = 64;  // of a matrix, as each has sums of all columns

}  // namespace

Extents shape_of_state(const State& state, const View& parameter) {
    Extents shape(parameter.shape, parameter.shape + parameter.dimensions);
    if (state.shape == State::kWhole || (state.shape == State::kColumns && shape.size() < 2)) return shape;
    if (shape.size() < 2) return {0};
    shape[shape.size() - (state.shape == State::kRows ? 1 : 2)] = 1;
    return shape;
}

Factors::Factors(const View* operands, int arithmetic) : arithmetic_(arithmetic) {
    const View& parameter = operands[kParameter];
    const auto axes = static_cast<std::size_t>(parameter.dimensions);
    shape_.assign(parameter.shape, parameter.shape + axes);
    columns_ = axes == 0 ? 1 : shape_[axes - 1];
    rows_ = axes < 2 ? 1 : shape_[axes - 2];
    matrices_ = parameter.size() / (rows_ * columns_);
    // These numbers are part of the order of additions, which fusedstep.reference states.
    block_rows_ = std::max({kTaskElements / columns_, (rows_ + kMostBlocks - 1) / kMostBlocks, std::int64_t{1}});
    block_rows_ = std::min(block_rows_, rows_);
    blocks_ = (rows_ + block_rows_ - 1) / block_rows_;
    task_matrices_ = std::max<std::int64_t>(1, kTaskElements / (rows_ * columns_));
    for (int i = 0; i < 2; ++i) {
        const View& view = operands[kState + i];
        stored_[i] = {view.data, view.storage, view.size(), Extents(view.shape, view.shape + view.dimensions),
                      Extents(view.strides, view.strides + view.dimensions)};
        if (view.dimensions == 0) stored_[i].shape = stored_[i].strides = {1};
        // Row-major, with a step of 0 along the axis that the moments are means over.
        root_strides_[i].assign(axes, 0);
        const std::size_t without =
            axes < 2 ? (i == 0 && axes == 1 ? 0 : axes) : axes - 1 - static_cast<std::size_t>(i);
        auto step = static_cast<Extent>(size_of(arithmetic));
        for (std::size_t d = axes; d-- > 0;) {
            if (d == without) continue;
            root_strides_[i][d] = step;
            step *= shape_[d];
        }
    }
    const auto count = [](std::int64_t n) { return static_cast<std::size_t>(n); };
    row_sums_.reset(new double[count(matrices_ * rows_)]);
    column_sums_.reset(new double[count(matrices_ * blocks_ * columns_)]);
    roots_.reset(new char[count((matrices_ * rows_ + matrices_ * columns_) * size_of(arithmetic))]);
}

View Factors::moments(int i) const {
    const Stored& stored = stored_[i];
    return {stored.data, stored.storage, static_cast<int>(stored.shape.size()), stored.shape.data(),
            stored.strides.data()};
}

char* Factors::roots_at(int i) const {
    return roots_.get() + (i == 0 ? 0 : matrices_ * rows_ * size_of(arithmetic_));
}

View Factors::roots(int i) const {
    return {roots_at(i), arithmetic_, static_cast<int>(shape_.size()), shape_.data(), root_strides_[i].data()};
}

std::int64_t Factors::tasks() const {
    return blocks_ == 1 ? (matrices_ + task_matrices_ - 1) / task_matrices_ : matrices_ * blocks_;
}

Factors::Range Factors::rows_of(std::int64_t task) const {
    if (blocks_ == 1) return {task * task_matrices_ * rows_, std::min((task + 1) * task_matrices_, matrices_) * rows_};
    const std::int64_t first = task / blocks_ * rows_, block = task % blocks_;
    return {first + block * block_rows_, first + std::min(rows_, (block + 1) * block_rows_)};
}

void Factors::clear_column_sums(Range rows) {
    std::fill(column_sums(rows.first), column_sums(rows.end - 1) + columns_, 0.0);
}

// Of squares: over a row, or over a column, block after block.
double Factors::mean(int i, std::int64_t number) const {
    if (i == 0) return row_sums_[static_cast<std::size_t>(number)] / static_cast<double>(columns_);
    const double* const first = column_sums_.get() + number / columns_ * blocks_ * columns_ + number % columns_;
    double sum = *first;
    for (std::int64_t block = 1; block < blocks_; ++block) sum += first[block * columns_];
    return sum / static_cast<double>(rows_);
}

template <class T>
void Factors::update_moments(int i, const Program::Factored& how, unsigned stochastic, Randomness randomness) {
    const Stored& to = stored_[i];
    const T rate = static_cast<T>(how.rate);
    randomness.slot = static_cast<std::uint32_t>(2 + i);
    for (std::int64_t begin = 0; begin < to.size; begin += kTile) {
        const std::int64_t n = std::min(kTile, to.size - begin);
        T* const now = reinterpret_cast<T*>(roots_at(i)) + begin;
        gather(to.shape, to.strides, to.data, to.storage, begin, n, arithmetic_, now);
        for (std::int64_t k = 0; k < n; ++k) now[k] += rate * (static_cast<T>(mean(i, begin + k) + how.added) - now[k]);
        const T* rounded = now;
        alignas(64) T values[kTile];
        if ((stochastic >> (kState + i) & 1) != 0) {
            std::uint16_t narrow[kTile];
            table().store_randomly[to.storage][arithmetic_](begin, n, now, narrow, randomness);
            table().load[to.storage][arithmetic_](n, narrow, values);
            rounded = values;
        }
        scatter(to.shape, to.strides, to.data, to.storage, begin, n, arithmetic_, rounded);
    }
}

template <class T>
void Factors::update_as(const Program::Factored& how, unsigned stochastic, const Randomness& randomness) {
    for (int i = 0; i < 2; ++i) update_moments<T>(i, how, stochastic, randomness);
    T *row = reinterpret_cast<T*>(roots_at(0)), *const columns = reinterpret_cast<T*>(roots_at(1));
    if (!has_rows()) *row = 1;
    for (std::int64_t matrix = 0; has_rows() && matrix < matrices_; ++matrix, row += rows_) {
        double total = 0;
        for (std::int64_t i = 0; i < rows_; ++i) total += static_cast<double>(row[i]);
        const double mean = total / static_cast<double>(rows_), divisor = mean < how.floor ? how.floor : mean;
        for (std::int64_t i = 0; i < rows_; ++i)
            row[i] = static_cast<T>(std::sqrt(static_cast<double>(row[i]) / divisor));
    }
    std::transform(columns, columns + matrices_ * columns_, columns, [](T moment) { return std::sqrt(moment); });
}

void Factors::update(const Program::Factored& how, unsigned stochastic, const Randomness& randomness) {
    if (arithmetic_ == kFloat64)
        update_as<double>(how, stochastic, randomness);
    else
        update_as<float>(how, stochastic, randomness);
}

}  // namespace fusedstep
