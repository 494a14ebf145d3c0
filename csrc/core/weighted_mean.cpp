#include "weighted_mean.hpp"

#include <algorithm>

#include "dispatch.hpp"
#include "float_mode.hpp"
#include "parallel.hpp"
#include "strided.hpp"

namespace fusedstep {
namespace {

// Elements of one array of which all terms are added before the next. Shorter runs of each term would be slower to
// read, longer ones leave no room in the first cache for the sums.
constexpr std::int64_t kPiece = 4 * kTile;

constexpr std::int64_t kTaskPieces = 4;

void load(const Extents& shape, const Extents& strides, const char* data, int storage, std::int64_t begin,
          std::int64_t n, int arithmetic, char* to) {
    if (strides.empty()) return table().load[storage][arithmetic](n, data + begin * size_of(storage), to);
    for (std::int64_t done = 0; done < n; done += kTile)
        gather(shape, strides, data, storage, begin + done, std::min(kTile, n - done), arithmetic,
               to + done * size_of(arithmetic));
}

}  // namespace

void WeightedMeans::add_mean(const View& mean) {
    const std::int64_t size = mean.size(), before = means_.empty() ? 0 : means_.back().end;
    means_.push_back({mean.data, mean.storage, Extents(mean.shape, mean.shape + mean.dimensions), size,
                      before + (size + kPiece - 1) / kPiece});
    if (mean.dimensions == 0) means_.back().shape.assign(1, 1);
    bytes_ += size * size_of(mean.storage);
}

void WeightedMeans::add_term(const View& term) {
    const bool here = is_contiguous(term);
    const bool is_direct = here && term.storage == arithmetic_of(means_.back().storage) && is_aligned(term);
    terms_.push_back(
        {term.data, term.storage, is_direct, here ? Extents() : Extents(term.strides, term.strides + term.dimensions)});
    bytes_ += term.size() * size_of(term.storage);
}

void WeightedMeans::run_piece(const Stage& scale, const Stage& accumulate, std::size_t number, std::int64_t begin,
                              std::int64_t n) const {
    const Mean& mean = means_[number];
    const int arithmetic = arithmetic_of(mean.storage);
    alignas(64) char sums[kPiece * sizeof(double)], loaded[kPiece * sizeof(double)];
    const Term* term = &terms_[number * factors_.size()];
    for (std::size_t i = 0; i < factors_.size(); ++i, ++term) {
        const bool is_first = i == 0;
        const char* values = term->data + begin * size_of(term->storage);
        if (is_first || !term->is_direct) {
            char* const to = is_first ? sums : loaded;
            load(mean.shape, term->strides, term->data, term->storage, begin, n, arithmetic, to);
            values = to;
        }
        void* const operands[] = {sums, const_cast<char*>(values)};
        (is_first ? scale : accumulate).run[arithmetic](n, &factors_[i], operands);
    }
    table().store[mean.storage][arithmetic](n, sums, mean.data + begin * size_of(mean.storage));
}

void WeightedMeans::run() const {
    const Stage &scale = *find_stage("scale"), &accumulate = *find_stage("accumulate");
    const std::int64_t pieces = means_.empty() ? 0 : means_.back().end;
    parallel_for((pieces + kTaskPieces - 1) / kTaskPieces, bytes_, [&](std::int64_t task) {
        const FloatMode mode;
        const std::int64_t end = std::min((task + 1) * kTaskPieces, pieces);
        for (std::int64_t piece = task * kTaskPieces; piece < end; ++piece) {
            const auto mean = std::upper_bound(means_.begin(), means_.end(), piece,
                                               [](std::int64_t at, const Mean& each) { return at < each.end; });
            const std::int64_t first = mean == means_.begin() ? 0 : (mean - 1)->end, begin = (piece - first) * kPiece;
            run_piece(scale, accumulate, static_cast<std::size_t>(mean - means_.begin()), begin,
                      std::min(kPiece, mean->size - begin));
        }
    });
}

}  // namespace fusedstep
