#include "rows.hpp"

#include <algorithm>
#include <numeric>

#include "dispatch.hpp"
#include "float_mode.hpp"
#include "parallel.hpp"
#include "strided.hpp"

namespace fusedstep {
namespace {

template <class T> void add_up(std::int64_t n, const void* terms, char* sums) {
    const T* from = static_cast<const T*>(terms);
    T* to = reinterpret_cast<T*>(sums);
    for (std::int64_t i = 0; i < n; ++i) to[i] += from[i];
}

}  // namespace

MergedRows merge_rows(const std::int64_t* numbers, std::int64_t count, const View& values, int arithmetic) {
    MergedRows merged;
    if (count == 0) return merged;
    std::vector<std::int64_t> order(static_cast<std::size_t>(count));
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(),
                     [=](std::int64_t a, std::int64_t b) { return numbers[a] < numbers[b]; });
    std::vector<std::int64_t> first;  // in `order`, of each row
    for (std::int64_t i = 0; i < count; ++i) {
        const std::int64_t number = numbers[order[static_cast<std::size_t>(i)]];
        if (!merged.numbers.empty() && merged.numbers.back() == number) continue;
        merged.numbers.push_back(number);
        first.push_back(i);
    }
    first.push_back(count);
    const std::int64_t row_size = values.size() / count;
    const std::int64_t rows = static_cast<std::int64_t>(merged.numbers.size()), bytes = row_size * size_of(arithmetic);
    merged.values.reset(new char[static_cast<std::size_t>(rows * bytes)]);
    const Extents shape(values.shape, values.shape + values.dimensions),
        strides(values.strides, values.strides + values.dimensions);
    constexpr std::int64_t kTaskBytes = 1 << 16;
    const std::int64_t task_rows = std::max<std::int64_t>(1, kTaskBytes / std::max<std::int64_t>(1, bytes));
    parallel_for((rows + task_rows - 1) / task_rows, count * bytes, [&](std::int64_t task) {
        const FloatMode mode;
        const std::int64_t end = std::min(rows, (task + 1) * task_rows);
        for (std::int64_t row = task * task_rows; row < end; ++row) {
            char* const sums = merged.values.get() + row * bytes;
            std::fill_n(sums, bytes, char{0});
            for (std::int64_t i = first[static_cast<std::size_t>(row)]; i < first[static_cast<std::size_t>(row) + 1];
                 ++i) {
                const std::int64_t begin = order[static_cast<std::size_t>(i)] * row_size;
                for (std::int64_t done = 0; done < row_size; done += kTile) {
                    alignas(64) char terms[kTile * sizeof(double)];
                    const std::int64_t n = std::min(kTile, row_size - done);
                    gather(shape, strides, values.data, values.storage, begin + done, n, arithmetic, terms);
                    (arithmetic == kFloat64 ? add_up<double> : add_up<float>)(n, terms,
                                                                              sums + done * size_of(arithmetic));
                }
            }
        }
    });
    return merged;
}

}  // namespace fusedstep
