#include "arrays.hpp"

#include <algorithm>
#include <cstdlib>
#include <numeric>

namespace fusedstep {

bool has_no_gaps(const View& view) {
    Extent step = size_of(view.storage);
    for (int d = view.dimensions; d-- > 0; step *= view.shape[d]) {
        if (view.shape[d] == 0) return true;
        if (view.shape[d] != 1 && view.strides[d] != step) return false;
    }
    return true;
}

bool is_aligned(const View& view) {
    auto together = reinterpret_cast<std::uintptr_t>(view.data);
    for (int d = 0; d < view.dimensions; ++d)
        if (view.shape[d] > 1) together |= static_cast<std::uintptr_t>(view.strides[d]);
    return together % static_cast<std::uintptr_t>(size_of(view.storage)) == 0;
}

Span span_of(const View& view, std::int64_t item_size, bool written) {
    Span span{view.data, view.data + item_size, written};
    for (int d = 0; d < view.dimensions; ++d) {
        if (view.shape[d] == 0) return {view.data, view.data, written};
        const Extent reach = (view.shape[d] - 1) * view.strides[d];
        (reach < 0 ? span.low : span.high) += reach;
    }
    return span;
}

bool any_overlap(std::vector<Span> spans) {
    std::sort(spans.begin(), spans.end(), [](const Span& a, const Span& b) { return a.low < b.low; });
    // In order of address, an overlap shows against the furthest end so far of any span, or of any written one.
    const char *end = nullptr, *written_end = nullptr;
    for (const Span& span : spans) {
        if (span.low == span.high) continue;
        if (span.low < (span.written ? end : written_end)) return true;
        end = std::max(end, span.high);
        if (span.written) written_end = std::max(written_end, span.high);
    }
    return false;
}

std::vector<int> memory_order(const View& view) {
    std::vector<int> order(static_cast<std::size_t>(view.dimensions));
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(),
                     [&](int i, int j) { return std::abs(view.strides[i]) > std::abs(view.strides[j]); });
    return order;
}

bool is_dense(const Extents& shape, const Extents& strides, std::int64_t item_size) {
    for (std::size_t d = shape.size(); d-- > 0; item_size *= shape[d])
        if (shape[d] != 1 && strides[d] != item_size) return false;
    return true;
}

Extents row_major_strides(const Extents& shape, int storage) {
    Extents strides(shape.size());
    auto stride = static_cast<Extent>(size_of(storage));
    for (std::size_t d = shape.size(); d-- > 0; stride *= shape[d]) strides[d] = stride;
    return strides;
}

Extents permuted(const Extent* values, const std::vector<int>& order) {
    Extents result;
    for (const int axis : order) result.push_back(values[axis]);
    return result;
}

namespace {

// Whether each axis steps over all that the faster ones reach, as in all but odd views.
bool is_nested(const View& view) {
    const std::vector<int> order = memory_order(view);
    std::int64_t reach = size_of(view.storage);
    for (auto d = order.rbegin(); d != order.rend(); ++d) {
        if (view.shape[*d] == 1) continue;
        if (std::abs(view.strides[*d]) < reach) return false;
        reach += (view.shape[*d] - 1) * std::abs(view.strides[*d]);
    }
    return true;
}

// The distances between elements of views: sums of multiples of strides, each multiple within bounds of its own. The
// search for a distance within limits is a bounded one and answers yes when it gives up. It takes few steps for arrays
// in practice, because a multiple of a long stride leaves few choices for the shorter ones.
class Distances {
  public:
    void add(Extent stride, std::int64_t low, std::int64_t high) {
        if (stride < 0) return add(-stride, -high, -low);
        if (stride == 0 || (low == 0 && high == 0)) return;
        const auto same =
            std::find_if(axes_.begin(), axes_.end(), [=](const Axis& axis) { return axis.stride == stride; });
        if (same == axes_.end()) {
            axes_.push_back({stride, low, high});
        } else {
            same->low += low;
            same->high += high;
        }
    }

    // but_none: at least one multiple must not be 0.
    bool any_within(std::int64_t low, std::int64_t high, bool but_none) {
        std::sort(axes_.begin(), axes_.end(), [](const Axis& a, const Axis& b) { return a.stride < b.stride; });
        std::int64_t least = 0, most = 0;
        for (Axis& axis : axes_) {
            axis.least_before = least;
            axis.most_before = most;
            least += axis.low * axis.stride;
            most += axis.high * axis.stride;
        }
        steps_ = 0;
        return search(axes_.size(), low, high, but_none);
    }

  private:
    static constexpr int kMostSteps = 1 << 16;

    struct Axis {
        Extent stride;
        std::int64_t low, high;
        std::int64_t least_before, most_before;  // the smallest and largest sum of all shorter strides
    };

    static std::int64_t floor_of(std::int64_t a, std::int64_t b) { return a / b - (a % b < 0 ? 1 : 0); }

    // Whether a sum over the first `count` axes falls within limits.
    bool search(std::size_t count, std::int64_t low, std::int64_t high, bool but_none) {
        if (++steps_ > kMostSteps) return true;
        if (count == 0) return low <= 0 && 0 <= high && !but_none;
        const Axis& axis = axes_[count - 1];
        const std::int64_t first = std::max(axis.low, -floor_of(axis.most_before - low, axis.stride)),
                           last = std::min(axis.high, floor_of(high - axis.least_before, axis.stride));
        for (std::int64_t times = first; times <= last; ++times)
            if (search(count - 1, low - times * axis.stride, high - times * axis.stride, but_none && times == 0))
                return true;
        return false;
    }

    std::vector<Axis> axes_;
    int steps_ = 0;
};

}  // namespace

bool share_memory(const View& a, const View& b) {
    if (!span_of(a, true).overlaps(span_of(b, true)) || a.size() == 0 || b.size() == 0) return false;
    if (is_contiguous(a) && is_contiguous(b)) return true;
    Distances distances;
    for (int d = 0; d < a.dimensions; ++d) distances.add(a.strides[d], 0, a.shape[d] - 1);
    for (int d = 0; d < b.dimensions; ++d) distances.add(b.strides[d], 1 - b.shape[d], 0);
    const std::int64_t apart = a.data - b.data;
    return distances.any_within(1 - size_of(a.storage) - apart, size_of(b.storage) - 1 - apart, false);
}

bool overlaps_itself(const View& view) {
    if (view.size() <= 1 || is_nested(view)) return false;
    Distances distances;
    for (int d = 0; d < view.dimensions; ++d) {
        if (view.shape[d] == 1) continue;
        if (view.strides[d] == 0) return true;
        for (int e = 0; e < d; ++e)
            if (view.shape[e] > 1 && std::abs(view.strides[e]) == std::abs(view.strides[d])) return true;
        distances.add(view.strides[d], 1 - view.shape[d], view.shape[d] - 1);
    }
    return distances.any_within(1 - size_of(view.storage), size_of(view.storage) - 1, true);
}

}  // namespace fusedstep
