#include "views.hpp"

#include <algorithm>
#include <cstdlib>
#include <numeric>

namespace fusedstep {

Span span_of(const View& view, bool written) {
    Span span{view.data, view.data, written};
    if (view.size == 0) return span;
    span.high += view.item_size;
    for (std::size_t d = 0; d < view.shape.size(); ++d) {
        const std::int64_t reach = (view.shape[d] - 1) * view.strides[d];
        (reach < 0 ? span.low : span.high) += reach;
    }
    return span;
}

bool any_meet(std::vector<Span> spans) {
    std::sort(spans.begin(), spans.end(), [](const Span& a, const Span& b) { return a.low < b.low; });
    // In order of address, a meeting shows against the furthest end so far of any span, or of any written one.
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
    std::vector<int> order(view.shape.size());
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

namespace {

// Whether each axis steps over all that the faster ones reach, as in all but odd views.
bool is_nested(const View& view) {
    const std::vector<int> order = memory_order(view);
    std::int64_t reach = view.item_size;
    for (auto d = order.rbegin(); d != order.rend(); ++d) {
        if (view.shape[*d] == 1) continue;
        if (std::abs(view.strides[*d]) < reach) return false;
        reach += (view.shape[*d] - 1) * std::abs(view.strides[*d]);
    }
    return true;
}

}  // namespace

bool overlaps_itself(const View& view) {
    if (view.size <= 1 || is_nested(view)) return false;
    Extents places{0};
    for (std::size_t d = 0; d < view.shape.size(); ++d) {
        if (view.strides[d] == 0 && view.shape[d] > 1) return true;
        const std::size_t before = places.size();
        for (std::int64_t i = 1; i < view.shape[d]; ++i)
            for (std::size_t j = 0; j < before; ++j) places.push_back(places[j] + i * view.strides[d]);
    }
    std::sort(places.begin(), places.end());
    return std::adjacent_find(places.begin(), places.end(),
                              [&](std::int64_t a, std::int64_t b) { return b - a < view.item_size; }) != places.end();
}

Extents permuted(const Extents& values, const std::vector<int>& order) {
    Extents result(values.size());
    for (std::size_t d = 0; d < order.size(); ++d) result[d] = values[order[d]];
    return result;
}

}  // namespace fusedstep
