// Second moments of a matrix by rows and columns, in place of those of its elements.
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>

#include "arrays.hpp"
#include "rules.hpp"

namespace fusedstep {

// The shape of a state. The last two axes of a parameter are those of its matrices, of which it may have several. An
// array with fewer axes is one row: its columns have the moments of its elements, and there are none of rows.
Extents shape_of_state(const State& state, const View& parameter);

class Factors {
  public:
    // operands: the parameter, its gradient, the moments of rows and of columns. May throw, unlike the rest.
    Factors(const View* operands, int arithmetic);

    // The moments of rows (0) or columns (1) as they are stored, which may be anywhere and of any type.
    View moments(int i) const;

    // The roots that stages read in their place, of n elements in one row: of its own moment, and of those of columns,
    // an element each. Or 1 and their products.
    struct Roots {
        double row;
        char* columns;
        std::int64_t n;
    };
    // Of at most n elements from `begin` on, of which there are n or a multiple of kSumLanes. room: of n elements.
    Roots roots(std::int64_t begin, std::int64_t n, char* room) const;

    // A task is for all rows of some matrices, or for a block of rows of one. Rows are numbered through all matrices.
    struct Range {
        std::int64_t first, end;
    };
    std::int64_t tasks() const;
    Range rows_of(std::int64_t task) const;

    bool has_rows() const { return stored_[0].size != 0; }
    std::int64_t columns() const { return columns_; }

    // The sum of squares of a row; column_sums are the sums of squares of each column in the row's block.
    double* row_sum(std::int64_t row) { return row_sums_.get() + row; }
    // How many rows are left in its block, itself included.
    std::int64_t rows_left(std::int64_t row) const {
        const std::int64_t left = rows_ - row % rows_;
        return std::min(left, block_rows_ - row % rows_ % block_rows_);
    }
    double* column_sums(std::int64_t row) {
        return column_sums_.get() + (row / rows_ * blocks_ + row % rows_ / block_rows_) * columns_;
    }

    void clear_column_sums(Range rows);

    // Makes and stores the new moments, and takes their roots. stochastic: states of the step, a bit each.
    void update(const Program::Factored& how, unsigned stochastic, const Randomness& randomness);

  private:
    struct Stored {
        char* data;
        int storage;
        std::int64_t size;
        Extents shape, strides;
    };

    template <class T> void update_as(const Program::Factored& how, unsigned stochastic, const Randomness& randomness);
    template <class T>
    void update_moments(int i, const Program::Factored& how, unsigned stochastic, Randomness randomness);
    template <class T> Roots roots_as(std::int64_t begin, std::int64_t n, char* room) const;
    void take_means(int i, std::int64_t begin, std::int64_t n, double* means) const;
    char* roots_at(int i) const;

    const int arithmetic_;
    std::int64_t rows_, columns_, matrices_;            // rows of a matrix
    std::int64_t block_rows_, blocks_, task_matrices_;  // blocks of a matrix
    Stored stored_[2];
    std::unique_ptr<double[]> row_sums_, column_sums_;
    std::unique_ptr<char[]> roots_;  // of rows, then of columns
};

}  // namespace fusedstep
