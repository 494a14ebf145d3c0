#include "factors.hpp"

#include <algorithm>
#include <cmath>

#include "dispatch.hpp"
#include "reductions.hpp"
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
    columns_ = axes == 0 ? 1 : parameter.shape[axes - 1];
    rows_ = axes < 2 ? 1 : parameter.shape[axes - 2];
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

// Short rows have too little to do for a call each.
template <class T> Factors::Roots Factors::roots_as(std::int64_t begin, std::int64_t n, char* room) const {
    constexpr std::int64_t kShortRow = 128;
    const T* const of_rows = reinterpret_cast<const T*>(roots_at(0));
    std::int64_t row = begin / columns_, column = begin - row * columns_, matrix = row / rows_;
    T* columns = reinterpret_cast<T*>(roots_at(1)) + matrix * columns_;
    const std::int64_t left = columns_ - column;
    if (left >= n || (columns_ >= kShortRow && columns_ % kSumLanes == 0))
        return {static_cast<double>(of_rows[row]), reinterpret_cast<char*>(columns + column), std::min(n, left)};
    T* const products = reinterpret_cast<T*>(room);
    std::int64_t end = (matrix + 1) * rows_;
    for (std::int64_t i = 0; i < n; column = 0) {
        const T* const factors = columns + column - i;
        const T root = of_rows[row];
        for (const std::int64_t stop = std::min(n, i + columns_ - column); i < stop; ++i)
            products[i] = root * factors[i];
        if (++row < end) continue;
        end += rows_;
        columns += columns_;
    }
    return {1, room, n};
}

Factors::Roots Factors::roots(std::int64_t begin, std::int64_t n, char* room) const {
    return arithmetic_ == kFloat64 ? roots_as<double>(begin, n, room) : roots_as<float>(begin, n, room);
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

// Of squares: over rows, or over columns, block after block.
void Factors::take_means(int i, std::int64_t begin, std::int64_t n, double* means) const {
    const auto length = static_cast<double>(i == 0 ? columns_ : rows_);
    if (i == 0) std::copy_n(row_sums_.get() + begin, n, means);
    for (std::int64_t done = 0, count; i == 1 && done < n; done += count) {
        const std::int64_t matrix = (begin + done) / columns_, column = begin + done - matrix * columns_;
        count = std::min(n - done, columns_ - column);
        const double* from = column_sums_.get() + matrix * blocks_ * columns_ + column;
        double* const to = means + done;
        std::copy_n(from, count, to);
        for (std::int64_t block = 1; block < blocks_; ++block) {
            from += columns_;
            for (std::int64_t k = 0; k < count; ++k) to[k] += from[k];
        }
    }
    for (std::int64_t k = 0; k < n; ++k) means[k] /= length;
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
        double means[kTile];
        take_means(i, begin, n, means);
        for (std::int64_t k = 0; k < n; ++k) now[k] += rate * (static_cast<T>(means[k] + how.added) - now[k]);
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
