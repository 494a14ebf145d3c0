// The loops of batch normalisation. Included by kernels.cpp alone, and so compiled once per instruction set.
//
// Sums have the same order of additions whatever the vector width: within a channel, element i of a block adds to lane
// i mod kLanes; across a panel of channels each column has its own sums. In both, kGroup terms are added up first, as
// long as that many are left. Both restart in each block, and the blocks' sums are merged in double, compensated. A
// block's moments are taken about the mean of the blocks before it, the first block's about the mean of its first
// quarter, so that no large number cancels: with such a pivot the sum of all squares is at most four times the sum of
// squared deviations.
//
// ivdep: no iteration depends on another, also where the output is one of the inputs. Without it GCC would test for
// overlap and take a scalar loop then; other compilers ignore it and do.
#pragma once

#include <cstring>
#include <type_traits>

#include "batch_norm_formulas.hpp"
#include "compensated.hpp"
#include "table.hpp"

namespace {

using fusedstep::kPanelColumns;
using fusedstep::MomentArrays;
using fusedstep::Tile;
using std::int64_t;

template <class T> constexpr int kLanes = 128 / sizeof(T);
constexpr int64_t kBlock = 1024, kPivotElements = kBlock / 4, kShortRun = kBlock / 4;  // of a channel
constexpr int64_t kBlockRows = 128, kPivotRows = kBlockRows / 4;
constexpr int64_t kPrefetchBytes = 2048;
constexpr int kGroup = 4;
constexpr int kResultRows = 2;  // that share loaded coefficients

inline int64_t smaller(int64_t a, int64_t b) {
    return a < b ? a : b;
}

// Where element i of a channel is.
inline int64_t offset_of(const Tile& tile, int64_t i) {
    return i / tile.run * tile.stride + i % tile.run;
}

// Calls f(offset, length, before) for each contiguous run of a part of a channel; `before` elements came before it.
template <class F> void over_runs(const Tile& tile, F f) {
    int64_t inside = tile.begin % tile.run, offset = offset_of(tile, tile.begin);
    for (int64_t i = tile.begin; i < tile.end; inside = 0) {
        const int64_t length = smaller(tile.run - inside, tile.end - i);
        f(offset, length, i - tile.begin);
        i += length;
        offset += tile.stride - inside;
    }
}

// The elements or rows from `begin` on of a tile, `length` of them at most.
inline Tile part(const Tile& tile, int64_t begin, int64_t length) {
    return {tile.stride, tile.run, begin, smaller(begin + length, tile.end), tile.channels, tile.nontemporal};
}

// Calls f(block) for each block of rows of a panel.
template <class F> void over_row_blocks(const Tile& tile, F f) {
    for (int64_t begin = tile.begin; begin < tile.end; begin += kBlockRows) f(part(tile, begin, kBlockRows));
}

// Calls f(block) for each block of a channel. A block goes over several runs if these are short, else it is in one.
template <class F> void over_blocks(const Tile& tile, F f) {
    const int64_t blocks_in_run = (tile.run + kBlock - 1) / kBlock;
    const int64_t length = tile.run < kShortRun ? kBlock : (tile.run + blocks_in_run - 1) / blocks_in_run;
    for (int64_t begin = tile.begin; begin < tile.end;) {
        const int64_t left = tile.run < kShortRun ? length : tile.run - begin % tile.run;
        const Tile block = part(tile, begin, smaller(length, left));
        f(block);
        begin = block.end;
    }
}

// Calls f(rows, offset) for the rows of a tile: Rows of them at a time, the last few one by one.
template <int Rows, class F> void over_row_groups(const Tile& tile, F f) {
    int64_t row = tile.begin;
    for (; row + Rows <= tile.end; row += Rows) f(std::integral_constant<int, Rows>(), row * tile.stride);
    for (; row < tile.end; ++row) f(std::integral_constant<int, 1>(), row * tile.stride);
}

// Prefetches the next run if element i ends one: processors prefetch along a run by themselves, but don't foresee
// where the next one is.
template <class T> void prefetch_next_run(const T* x, const Tile& tile, int64_t i) {
    if (i == tile.end || i % tile.run != 0) return;
    prefetch(x + offset_of(tile, i), smaller(tile.run, kPrefetchBytes / sizeof(T)));
}

// The elements of a block of a channel side by side: in place if they are one run, else copied to `buffer`.
template <class T> const T* side_by_side(const T* x, const Tile& block, T* buffer) {
    if (block.begin / block.run == (block.end - 1) / block.run) return x + offset_of(block, block.begin);
    over_runs(block, [=](int64_t offset, int64_t n, int64_t before) {
        std::memcpy(buffer + before, x + offset, static_cast<std::size_t>(n) * sizeof(T));
    });
    return buffer;
}

// Two sums over n elements, in lanes.
template <class T> struct LaneSums {
    T first[kLanes<T>] = {}, second[kLanes<T>] = {};

    // terms(i, first, second) adds what element i contributes.
    template <class Terms> void add(int64_t n, Terms terms) {
        int64_t i = 0;
        for (; i + kGroup * kLanes<T> <= n; i += kGroup * kLanes<T>) {
            T one[kLanes<T>] = {}, other[kLanes<T>] = {};
            for (int group = 0; group < kGroup; ++group)
                for (int lane = 0; lane < kLanes<T>; ++lane)
                    terms(i + group * kLanes<T> + lane, one[lane], other[lane]);
            for (int lane = 0; lane < kLanes<T>; ++lane) {
                first[lane] += one[lane];
                second[lane] += other[lane];
            }
        }
        for (; i + kLanes<T> <= n; i += kLanes<T>)
            for (int lane = 0; lane < kLanes<T>; ++lane) terms(i + lane, first[lane], second[lane]);
        for (int lane = 0; i + lane < n; ++lane) terms(i + lane, first[lane], second[lane]);
    }

    static double total(const T* lanes) {
        double sum[kLanes<T>];
        for (int lane = 0; lane < kLanes<T>; ++lane) sum[lane] = lanes[lane];
        for (int half = kLanes<T> / 2; half > 0; half /= 2)
            for (int lane = 0; lane < half; ++lane) sum[lane] += sum[lane + half];
        return sum[0];
    }
};

template <class T> Moments block_moments(const T* x, const Tile& block, T pivot, T base) {
    T buffer[kBlock];
    const T* elements = side_by_side(x, block, buffer);
    const int64_t n = block.end - block.begin;
    LaneSums<T> sums;
    sums.add(n, [=](int64_t i, T& sum, T& squares) {
        const T d = elements[i] - pivot;
        sum += d;
        squares += d * d;
    });
    return moments_about(pivot, base, static_cast<double>(n), sums.total(sums.first), sums.total(sums.second));
}

template <class T> void channel_moments(const T* x, const Tile& tile, const MomentArrays& moments) {
    const T first = x[offset_of(tile, tile.begin)];
    const Moments head = block_moments(x, part(tile, tile.begin, kPivotElements), first, first);
    const T near_mean = static_cast<T>(head.base + head.offset);
    Moments all(0, near_mean, 0, 0);
    over_blocks(tile, [&](const Tile& block) {
        prefetch_next_run(x, tile, block.end);
        all.merge(block_moments(x, block, static_cast<T>(all.base + all.offset), near_mean));
    });
    all.store(moments, 0);
}

template <class T> void channel_sums(const T* x, const T* dout, const Tile& tile, const T* coefficients, int64_t pitch,
                                     double* sum, double* dot) {
    const T mean = coefficients[0], rest = coefficients[pitch];
    double sum_low = 0, dot_low = 0;
    *sum = *dot = 0;
    over_blocks(tile, [&](const Tile& block) {
        prefetch_next_run(x, tile, block.end);
        prefetch_next_run(dout, tile, block.end);
        T x_buffer[kBlock], dout_buffer[kBlock];
        const T *x_there = side_by_side(x, block, x_buffer), *dout_there = side_by_side(dout, block, dout_buffer);
        LaneSums<T> sums;
        sums.add(block.end - block.begin, [=](int64_t i, T& first, T& second) {
            first += dout_there[i];
            second += dout_there[i] * centred(x_there[i], mean, rest);
        });
        compensated_add(*sum, sum_low, sums.total(sums.first));
        compensated_add(*dot, dot_low, sums.total(sums.second));
    });
    *sum += sum_low;
    *dot += dot_low;
}

template <class T> void channel_normalize(const T* x, T* y, const Tile& tile, const T* coefficients, int64_t pitch) {
    const auto normalize = Normalize<T>::load(coefficients, pitch);
    over_runs(tile, [=](int64_t offset, int64_t n, int64_t) {
        if (tile.nontemporal) {
            stream_each(y, offset, offset + n,
                        [=](int64_t i, auto kind) { return normalize(elements<decltype(kind)>(x + i)); });
            return;
        }
#pragma GCC ivdep
        for (int64_t i = offset; i < offset + n; ++i) y[i] = normalize(x[i]);
    });
    if (tile.nontemporal) order_streamed_stores();
}

template <class T>
void channel_gradient(const T* x, const T* dout, T* dx, const Tile& tile, const T* coefficients, int64_t pitch) {
    const auto gradient = Gradient<T>::load(coefficients, pitch);
    over_runs(tile, [=](int64_t offset, int64_t n, int64_t) {
        if (tile.nontemporal) {
            stream_each(dx, offset, offset + n, [=](int64_t i, auto kind) {
                return gradient(elements<decltype(kind)>(x + i), elements<decltype(kind)>(dout + i));
            });
            return;
        }
#pragma GCC ivdep
        for (int64_t i = offset; i < offset + n; ++i) dx[i] = gradient(x[i], dout[i]);
    });
    if (tile.nontemporal) order_streamed_stores();
}

// Two sums for each column of a block of rows.
template <class T> struct ColumnSums {
    T first[kPanelColumns], second[kPanelColumns];

    // terms(i, j, first, second) adds what element i, which is in column j, contributes.
    template <class Terms> void set(const Tile& block, Terms terms) {
        for (int64_t j = 0; j < block.channels; ++j) first[j] = second[j] = 0;
        over_row_groups<kGroup>(block, [&](auto rows, int64_t offset) {
#pragma GCC ivdep
            for (int64_t j = 0; j < block.channels; ++j) {
                T one = 0, other = 0;
                for (int row = 0; row < rows; ++row) terms(offset + row * block.stride + j, j, one, other);
                first[j] += one;
                second[j] += other;
            }
        });
    }
};

template <class T> void panel_moments(const T* x, const Tile& tile, const MomentArrays& moments) {
    T pivot[kPanelColumns];
    ColumnSums<T> sums;
    const auto squares_about_pivot = [&](int64_t i, int64_t j, T& sum, T& squares) {
        const T d = x[i] - pivot[j];
        sum += d;
        squares += d * d;
    };
    const Tile head = part(tile, tile.begin, kPivotRows);
    const T rows = static_cast<T>(head.end - head.begin);
    for (int64_t j = 0; j < tile.channels; ++j) pivot[j] = x[tile.begin * tile.stride + j];
    sums.set(head, squares_about_pivot);
#pragma GCC ivdep
    for (int64_t j = 0; j < tile.channels; ++j) {
        const T near_mean = pivot[j] + sums.first[j] / rows;
        Moments(0, near_mean, 0, 0).store(moments, j);
    }
    double count = 0;
    over_row_blocks(tile, [&](const Tile& block) {
        const double n = static_cast<double>(block.end - block.begin);
        for (int64_t j = 0; j < block.channels; ++j) pivot[j] = static_cast<T>(moments.base[j] + moments.offset[j]);
        sums.set(block, squares_about_pivot);
#pragma GCC ivdep
        for (int64_t j = 0; j < block.channels; ++j) {
            Moments all(count, moments, j);
            all.merge(moments_about(pivot[j], all.base, n, sums.first[j], sums.second[j]));
            all.store(moments, j);
        }
        count += n;
    });
}

template <class T> void panel_sums(const T* x, const T* dout, const Tile& tile, const T* coefficients, int64_t pitch,
                                   double* sum, double* dot) {
    const T *mean = coefficients, *rest = coefficients + pitch;
    ColumnSums<T> sums;
    double sum_low[kPanelColumns], dot_low[kPanelColumns];
    for (int64_t j = 0; j < tile.channels; ++j) sum[j] = dot[j] = sum_low[j] = dot_low[j] = 0;
    over_row_blocks(tile, [&](const Tile& block) {
        sums.set(block, [=](int64_t i, int64_t j, T& first, T& second) {
            first += dout[i];
            second += dout[i] * centred(x[i], mean[j], rest[j]);
        });
        for (int64_t j = 0; j < block.channels; ++j) {
            compensated_add(sum[j], sum_low[j], sums.first[j]);
            compensated_add(dot[j], dot_low[j], sums.second[j]);
        }
    });
    for (int64_t j = 0; j < tile.channels; ++j) {
        sum[j] += sum_low[j];
        dot[j] += dot_low[j];
    }
}

// Streams f(i, j, T()) to element i, which is in column j, of each row of a panel.
template <class T, class F> void stream_rows(T* out, const Tile& tile, F f) {
    for (int64_t row = tile.begin; row < tile.end; ++row) {
        const int64_t offset = row * tile.stride;
        stream_each(out, offset, offset + tile.channels, [=](int64_t i, auto kind) { return f(i, i - offset, kind); });
    }
    order_streamed_stores();
}

template <class T> void panel_normalize(const T* x, T* y, const Tile& tile, const T* coefficients, int64_t pitch) {
    if (tile.nontemporal) {
        stream_rows(y, tile, [=](int64_t i, int64_t j, auto kind) {
            using V = decltype(kind);
            return Normalize<V>::load(coefficients + j, pitch)(elements<V>(x + i));
        });
        return;
    }
    over_row_groups<kResultRows>(tile, [=](auto rows, int64_t offset) {
#pragma GCC ivdep
        for (int64_t j = 0; j < tile.channels; ++j) {
            const auto normalize = Normalize<T>::load(coefficients + j, pitch);
            for (int64_t row = 0, i = offset + j; row < rows; ++row, i += tile.stride) y[i] = normalize(x[i]);
        }
    });
}

template <class T>
void panel_gradient(const T* x, const T* dout, T* dx, const Tile& tile, const T* coefficients, int64_t pitch) {
    if (tile.nontemporal) {
        stream_rows(dx, tile, [=](int64_t i, int64_t j, auto kind) {
            using V = decltype(kind);
            return Gradient<V>::load(coefficients + j, pitch)(elements<V>(x + i), elements<V>(dout + i));
        });
        return;
    }
    over_row_groups<kResultRows>(tile, [=](auto rows, int64_t offset) {
#pragma GCC ivdep
        for (int64_t j = 0; j < tile.channels; ++j) {
            const auto gradient = Gradient<T>::load(coefficients + j, pitch);
            for (int64_t row = 0, i = offset + j; row < rows; ++row, i += tile.stride) dx[i] = gradient(x[i], dout[i]);
        }
    });
}

}  // namespace
