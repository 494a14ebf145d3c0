#include "rows.hpp"

#include <algorithm>
#include <mutex>
#include <numeric>

#include "dispatch.hpp"
#include "float_mode.hpp"
#include "parallel.hpp"
#include "strided.hpp"

namespace fusedstep {
namespace {

// The positions of numbers in ascending order: a stable radix sort, from the lowest digit to the highest.
std::vector<std::int64_t> sorted_positions(const std::int64_t* numbers, std::int64_t count) {
    constexpr int kDigitBits = 11;
    constexpr std::int64_t kMask = (1 << kDigitBits) - 1;
    std::vector<std::int64_t> order(static_cast<std::size_t>(count)), next(order.size());
    std::iota(order.begin(), order.end(), 0);
    const std::int64_t largest = *std::max_element(numbers, numbers + count);
    for (int shift = 0; shift < 63 && largest >> shift != 0; shift += kDigitBits) {
        std::int64_t places[kMask + 2] = {};
        for (std::int64_t i = 0; i < count; ++i) ++places[(numbers[i] >> shift & kMask) + 1];
        std::partial_sum(places, places + kMask + 2, places);
        for (const std::int64_t i : order) next[static_cast<std::size_t>(places[numbers[i] >> shift & kMask]++)] = i;
        order.swap(next);
    }
    return order;
}

struct KeptMemory {
    std::mutex mutex;
    std::unique_ptr<char[]> memory;
    std::size_t bytes = 0;
};

// Never destroyed: threads may outlive the module. A thread that can't lock it at once allocates.
KeptMemory& kept() {
    static auto* const only = new KeptMemory;
    return *only;
}

// The first term is added to zeros, which turns -0 into 0.
template <class T> void add_up(std::int64_t n, const void* terms, void* sums, bool is_first) {
    const T* from = static_cast<const T*>(terms);
    T* to = static_cast<T*>(sums);
    if (is_first)
        for (std::int64_t i = 0; i < n; ++i) to[i] = T(0) + from[i];
    else
        for (std::int64_t i = 0; i < n; ++i) to[i] += from[i];
}

}  // namespace

RowMemory::RowMemory(std::size_t bytes) : bytes_(bytes) {
    KeptMemory& last = kept();
    const std::unique_lock lock(last.mutex, std::try_to_lock);
    if (lock && last.memory && last.bytes >= bytes) {
        memory_ = std::move(last.memory);
        bytes_ = last.bytes;
    } else {
        memory_.reset(new char[bytes]);
    }
}

RowMemory::~RowMemory() {
    constexpr std::size_t kMost = 16 << 20;
    if (!memory_ || bytes_ > kMost) return;
    KeptMemory& last = kept();
    const std::unique_lock lock(last.mutex, std::try_to_lock);
    if (!lock || (last.memory && last.bytes >= bytes_)) return;
    last.memory = std::move(memory_);
    last.bytes = bytes_;
}

MergedRows merge_rows(const std::int64_t* numbers, std::int64_t count, const View& values, int arithmetic) {
    MergedRows merged;
    if (count == 0) return merged;
    const std::vector<std::int64_t> order = sorted_positions(numbers, count);
    std::vector<std::int64_t> first;  // in `order`, of each row
    for (std::int64_t i = 0; i < count; ++i) {
        const std::int64_t number = numbers[order[static_cast<std::size_t>(i)]];
        if (!merged.numbers.empty() && merged.numbers.back() == number) continue;
        merged.numbers.push_back(number);
        first.push_back(i);
    }
    first.push_back(count);
    const auto rows = static_cast<std::int64_t>(merged.numbers.size());
    const std::int64_t row_size = values.size() / count, item_size = size_of(arithmetic);
    merged.values = RowMemory(static_cast<std::size_t>(rows * row_size * item_size));
    const Extents shape(values.shape, values.shape + values.dimensions),
        strides(values.strides, values.strides + values.dimensions);
    const bool is_direct = values.storage == arithmetic && is_contiguous(values) && is_aligned(values);
    constexpr std::int64_t kTaskBytes = 1 << 16;
    const std::int64_t task_rows =
        std::max<std::int64_t>(1, kTaskBytes / std::max<std::int64_t>(1, row_size * item_size));
    parallel_for((rows + task_rows - 1) / task_rows, count * row_size * item_size, [&](std::int64_t task) {
        const FloatMode mode;
        const std::int64_t first_row = task * task_rows, end_row = std::min(rows, first_row + task_rows);
        for (std::int64_t row = first_row; row < end_row; ++row) {
            const auto at = static_cast<std::size_t>(row);
            for (std::int64_t i = first[at]; i < first[at + 1]; ++i) {
                const std::int64_t begin = order[static_cast<std::size_t>(i)] * row_size;
                for (std::int64_t done = 0; done < row_size; done += kTile) {
                    alignas(64) char scratch[kTile * sizeof(double)];
                    const std::int64_t n = std::min(kTile, row_size - done);
                    const char* terms = scratch;
                    if (is_direct)
                        terms = values.data + (begin + done) * item_size;
                    else
                        gather(shape, strides, values.data, values.storage, begin + done, n, arithmetic, scratch);
                    (arithmetic == kFloat64 ? add_up<double>
                                            : add_up<float>)(n, terms,
                                                             merged.values.get() + (row * row_size + done) * item_size,
                                                             i == first[at]);
                }
            }
        }
    });
    return merged;
}

}  // namespace fusedstep
