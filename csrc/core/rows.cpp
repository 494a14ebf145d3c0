#include "rows.hpp"

#include <algorithm>
#include <cstring>
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

namespace {

// Positions in `order` by row: those of row i, whose number is numbers[i], are first[i] to first[i + 1], ascending.
struct Grouped {
    std::vector<std::int64_t> order, numbers, first;
};

Grouped group_rows(const std::int64_t* numbers, std::int64_t count) {
    Grouped grouped;
    grouped.order = sorted_positions(numbers, count);
    for (std::int64_t i = 0; i < count; ++i) {
        const std::int64_t number = numbers[grouped.order[static_cast<std::size_t>(i)]];
        if (!grouped.numbers.empty() && grouped.numbers.back() == number) continue;
        grouped.numbers.push_back(number);
        grouped.first.push_back(i);
    }
    grouped.first.push_back(count);
    return grouped;
}

// Calls run(row) for all rows of `bytes` each, of which there are `rows`.
template <class Run> void for_each_row(std::int64_t rows, std::int64_t bytes, std::int64_t moved, const Run& run) {
    constexpr std::int64_t kTaskBytes = 1 << 16;
    const std::int64_t task_rows = std::max<std::int64_t>(1, kTaskBytes / std::max<std::int64_t>(1, bytes));
    parallel_for((rows + task_rows - 1) / task_rows, moved, [&](std::int64_t task) {
        const FloatMode mode;
        const std::int64_t first_row = task * task_rows, end_row = std::min(rows, first_row + task_rows);
        for (std::int64_t row = first_row; row < end_row; ++row) run(static_cast<std::size_t>(row));
    });
}

// An array whose rows are read or written part by part.
class RowParts {
  public:
    RowParts(const View& view, int arithmetic)
        : view_(view),
          arithmetic_(arithmetic),
          shape_(view.shape, view.shape + view.dimensions),
          strides_(view.strides, view.strides + view.dimensions),
          is_direct_(view.storage == arithmetic && is_contiguous(view) && is_aligned(view)) {}

    // Elements begin to begin + n, where they are or in scratch, as numbers of the arithmetic's type.
    char* load(std::int64_t begin, std::int64_t n, char* scratch) const {
        if (is_direct_) return view_.data + begin * size_of(arithmetic_);
        gather(shape_, strides_, view_.data, view_.storage, begin, n, arithmetic_, scratch);
        return scratch;
    }

    void store(std::int64_t begin, std::int64_t n, const char* values) const {
        if (!is_direct_) scatter(shape_, strides_, view_.data, view_.storage, begin, n, arithmetic_, values);
    }

  private:
    const View& view_;
    const int arithmetic_;
    const Extents shape_, strides_;
    const bool is_direct_;
};

constexpr std::size_t kScratch = kTile * sizeof(double);

// In row-major order.
RowMemory copy_of(const View& view, int storage) {
    const FloatMode mode;
    const RowParts from(view, storage);
    RowMemory memory(static_cast<std::size_t>(view.size() * size_of(storage)));
    for (std::int64_t begin = 0, n; begin < view.size(); begin += n) {
        n = std::min(kTile, view.size() - begin);
        char* const to = memory.get() + begin * size_of(storage);
        const char* const loaded = from.load(begin, n, to);
        if (loaded != to) std::memcpy(to, loaded, static_cast<std::size_t>(n * size_of(storage)));
    }
    return memory;
}

}  // namespace

MergedRows merge_rows(const std::int64_t* numbers, std::int64_t count, const View& values, int arithmetic) {
    MergedRows merged;
    if (count == 0) return merged;
    Grouped grouped = group_rows(numbers, count);
    merged.numbers = std::move(grouped.numbers);
    const auto rows = static_cast<std::int64_t>(merged.numbers.size());
    const std::int64_t row_size = values.size() / count, bytes = row_size * size_of(arithmetic);
    merged.values = RowMemory(static_cast<std::size_t>(rows * bytes));
    const RowParts from(values, arithmetic);
    for_each_row(rows, bytes, count * bytes, [&](std::size_t row) {
        for (std::int64_t i = grouped.first[row]; i < grouped.first[row + 1]; ++i) {
            const std::int64_t begin = grouped.order[static_cast<std::size_t>(i)] * row_size;
            for (std::int64_t done = 0, n; done < row_size; done += n) {
                alignas(64) char scratch[kScratch];
                n = std::min(kTile, row_size - done);
                char* const sums =
                    merged.values.get() + static_cast<std::int64_t>(row) * bytes + done * size_of(arithmetic);
                (arithmetic == kFloat64 ? add_up<double> : add_up<float>)(n, from.load(begin + done, n, scratch), sums,
                                                                          i == grouped.first[row]);
            }
        }
    });
    return merged;
}

void add_rows(const View& matrix, const std::int64_t* numbers, std::int64_t count, const View& values) {
    if (values.size() == 0) return;
    if (share_memory(matrix, values)) {
        const int storage = arithmetic_of(values.storage);
        const RowMemory memory = copy_of(values, storage);
        const Extents strides = row_major_strides(Extents(values.shape, values.shape + values.dimensions), storage);
        const View copy{memory.get(), storage, values.dimensions, values.shape, strides.data(), true};
        return add_rows(matrix, numbers, count, copy);
    }
    const int arithmetic = std::max(arithmetic_of(matrix.storage), arithmetic_of(values.storage));
    const std::int64_t row_size = values.size() / count, bytes = row_size * size_of(arithmetic);
    const RowParts from(values, arithmetic), to(matrix, arithmetic);
    const auto add = [&](std::int64_t i) {
        for (std::int64_t done = 0, n; done < row_size; done += n) {
            alignas(64) char terms[kScratch], scratch[kScratch];
            n = std::min(kTile, row_size - done);
            const std::int64_t begin = numbers[i] * row_size + done;
            char* const sums = to.load(begin, n, scratch);
            (arithmetic == kFloat64 ? add_up<double> : add_up<float>)(n, from.load(i * row_size + done, n, terms), sums,
                                                                      false);
            to.store(begin, n, sums);
        }
    };
    if (threads_for(3 * count * bytes) == 1) {
        const FloatMode mode;
        for (std::int64_t i = 0; i < count; ++i) add(i);
        return;
    }
    const Grouped grouped = group_rows(numbers, count);
    for_each_row(static_cast<std::int64_t>(grouped.numbers.size()), bytes, 3 * count * bytes, [&](std::size_t row) {
        for (std::int64_t i = grouped.first[row]; i < grouped.first[row + 1]; ++i)
            add(grouped.order[static_cast<std::size_t>(i)]);
    });
}

}  // namespace fusedstep
