#include "arrays.hpp"

#include <algorithm>
#include <cstdlib>
#include <numeric>

namespace fusedstep {

bool same_shape(const View& a, const View& b) {
    if (a.dimensions != b.dimensions) return false;
    for (int d = 0; d < a.dimensions; ++d)
        if (a.shape[d] != b.shape[d]) return false;
    return true;
}

bool is_contiguous(const View& view) {
    if (view.contiguous) return true;
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

// The addresses of all elements, sorted.
std::vector<const char*> addresses(const View& view) {
    std::vector<const char*> result{view.data};
    for (int d = 0; d < view.dimensions; ++d) {
        const std::size_t before = result.size();
        for (Extent i = 1; i < view.shape[d]; ++i)
            for (std::size_t j = 0; j < before; ++j) result.push_back(result[j] + i * view.strides[d]);
    }
    std::sort(result.begin(), result.end());
    return result;
}

// Whether both are only ever found at distances from each other that no element reaches over, as two columns are.
bool are_interleaved(const View& a, const View& b) {
    Extent step = 0;
    for (const View* view : {&a, &b})
        for (int d = 0; d < view->dimensions; ++d)
            if (view->shape[d] > 1) step = std::gcd(step, view->strides[d]);
    if (step == 0) return false;
    const Extent distance = ((b.data - a.data) % step + step) % step;
    return distance >= size_of(a.storage) && distance + size_of(b.storage) <= step;
}

}  // namespace

bool share_memory(const View& a, const View& b) {
    constexpr std::int64_t kMost = 1 << 20;  // elements
    if (!span_of(a, true).overlaps(span_of(b, true)) || are_interleaved(a, b)) return false;
    if (is_contiguous(a) && is_contiguous(b)) return true;
    if (a.size() > kMost || b.size() > kMost) return true;
    const std::vector<const char*> first = addresses(a), second = addresses(b);
    for (auto i = first.begin(), j = second.begin(); i != first.end() && j != second.end();) {
        if (*i + size_of(a.storage) <= *j)
            ++i;
        else if (*j + size_of(b.storage) <= *i)
            ++j;
        else
            return true;
    }
    return false;
}

bool overlaps_itself(const View& view) {
    if (view.size() <= 1 || is_nested(view)) return false;
    for (int d = 0; d < view.dimensions; ++d)
        if (view.strides[d] == 0 && view.shape[d] > 1) return true;
    const std::vector<const char*> places = addresses(view);
    const std::int64_t item_size = size_of(view.storage);
    return std::adjacent_find(places.begin(), places.end(),
                              [=](const char* a, const char* b) { return b - a < item_size; }) != places.end();
}

}  // namespace fusedstep
