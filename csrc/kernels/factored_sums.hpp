// The sums that Adafactor takes: of squares of gradients by rows and columns, of parameters and of their updates.
#pragma once

#include <cstdint>
#include <cstring>

#include "reductions.hpp"
#include "stages_factored.hpp"
#include "vector.hpp"

// Without a name for the reason given in stages_around.hpp.
namespace {

// Lanes are vectors, because GCC would keep two sums of scalar lanes in memory.
constexpr int kDoubles = sizeof(Vector<double>) / sizeof(double), kSumParts = kSumLanes / kDoubles;

inline void add_square(Vector<double>& sum, Vector<double> value) {
    sum += value * value;
}

// Adds the square of each value to the sum of its column; squares[row]: the sum of those of a row, as sum_of_squares.
template <int rows, class T>
void add_squares_of(std::int64_t n, const T* values, std::int64_t pitch, double* __restrict sums, double* squares) {
    Vector<double> lanes[rows][kSumParts] = {};
    std::int64_t i = 0;
    for (; i + kSumLanes <= n; i += kSumLanes)
        for (int part = 0; part < kSumParts; ++part) {
            double* const to = sums + i + part * kDoubles;
            auto column = doubles(to);
            for (int row = 0; row < rows; ++row) {
                const auto value = doubles(values + row * pitch + i + part * kDoubles), square = value * value;
                lanes[row][part] += square;
                column += square;
            }
            std::memcpy(to, &column, sizeof column);
        }
    for (int row = 0; row < rows; ++row) {
        double sum[kSumLanes];
        std::memcpy(sum, lanes[row], sizeof sum);
        for (int lane = 0; i + lane < n; ++lane) {
            const double value = static_cast<double>(values[row * pitch + i + lane]), square = value * value;
            sum[lane] += square;
            sums[i + lane] += square;
        }
        squares[row] = sum_of_lanes(sum);
    }
}

// Rows begin `pitch` elements apart. Some at once, as the sums of many columns are loaded and stored each time.
template <class T> void add_squares(std::int64_t rows, std::int64_t n, const void* given, std::int64_t pitch,
                                    double* sums, double* squares) {
    const T* const values = static_cast<const T*>(given);
    std::int64_t row = 0;
    for (; row + 8 <= rows; row += 8) add_squares_of<8>(n, values + row * pitch, pitch, sums, squares + row);
    for (; row + 4 <= rows; row += 4) add_squares_of<4>(n, values + row * pitch, pitch, sums, squares + row);
    for (; row < rows; ++row) add_squares_of<1>(n, values + row * pitch, pitch, sums, squares + row);
}

// Adds squares of parameters to the first kSumLanes lanes, and of their updates to the others; from the first lane on.
template <class T> void add_update_squares(std::int64_t n, double floor, double root, const void* parameter,
                                           const void* gradient, const void* roots, double* lanes) {
    const T *const w = static_cast<const T*>(parameter), *const g = static_cast<const T*>(gradient),
                   *const c = static_cast<const T*>(roots);
    const T least = static_cast<T>(floor), r = static_cast<T>(root);
    constexpr std::int64_t kAhead = 512 / sizeof(T);  // the processor by itself fetches too late for one thread
    constexpr int width = sizeof(Vector<T>) / sizeof(T);
    const Vector<T> floors = Vector<T>{} + least, row = Vector<T>{} + r;
    Vector<double> of_w[kSumParts], of_u[kSumParts];
    for (int part = 0; part < kSumParts; ++part) {
        of_w[part] = doubles(lanes + part * kDoubles);
        of_u[part] = doubles(lanes + kSumLanes + part * kDoubles);
    }
    std::int64_t i = 0;
    for (; i + kSumLanes <= n; i += kSumLanes) {
        prefetch(w + i + kAhead, kSumLanes);
        prefetch(g + i + kAhead, kSumLanes);
        T updates[kSumLanes];
        for (int lane = 0; lane < kSumLanes; lane += width) {
            const auto u =
                factored_update(floors, elements<Vector<T>>(g + i + lane), row, elements<Vector<T>>(c + i + lane));
            std::memcpy(updates + lane, &u, sizeof u);
        }
        for (int part = 0; part < kSumParts; ++part) {
            add_square(of_w[part], doubles(w + i + part * kDoubles));
            add_square(of_u[part], doubles(updates + part * kDoubles));
        }
    }
    for (int part = 0; part < kSumParts; ++part) {
        std::memcpy(lanes + part * kDoubles, &of_w[part], sizeof of_w[part]);
        std::memcpy(lanes + kSumLanes + part * kDoubles, &of_u[part], sizeof of_u[part]);
    }
    for (int lane = 0; i < n; ++lane, ++i) {
        const double weight = static_cast<double>(w[i]), u = static_cast<double>(factored_update(least, g[i], r, c[i]));
        lanes[lane] += weight * weight;
        lanes[kSumLanes + lane] += u * u;
    }
}

}  // namespace
