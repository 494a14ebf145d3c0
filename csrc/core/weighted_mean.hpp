// Weighted means of arrays: sums in the order of their terms, each array read once.
#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "arrays.hpp"

namespace fusedstep {

// The terms of an array's mean have the factors in their order. Means are added, which may throw; then all are computed
// in one parallel region.
class WeightedMeans {
  public:
    explicit WeightedMeans(std::vector<double> factors) : factors_(std::move(factors)) {}

    // A mean, which is contiguous, and is computed in the type that parameters of its storage type are computed in.
    void add_mean(const View& mean);

    // The next term of the last mean, of the same shape. It shares no memory with any mean.
    void add_term(const View& term);

    void run() const;

  private:
    struct Term {
        const char* data;
        int storage;
        bool is_direct;   // contiguous, aligned, and of the arithmetic's type
        Extents strides;  // empty if contiguous
    };

    struct Mean {
        char* data;
        int storage;
        Extents shape;
        std::int64_t size, end;  // in elements; in pieces, in the concatenation of all means
    };

    void run_piece(const Stage& scale, const Stage& accumulate, std::size_t mean, std::int64_t begin,
                   std::int64_t n) const;

    const std::vector<double> factors_;
    std::vector<Mean> means_;
    std::vector<Term> terms_;
    std::int64_t bytes_ = 0;
};

}  // namespace fusedstep
