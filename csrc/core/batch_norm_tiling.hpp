// How the work of batch normalisation is divided: groups of channels, segments, tiles.
#pragma once

#include <algorithm>
#include <cstdint>

#include "batch_norm.hpp"
#include "dispatch.hpp"
#include "float_mode.hpp"
#include "parallel.hpp"

namespace fusedstep {

// Segments are the unit of the statistics and so part of what fixes the bits: their length depends on the shape alone.
constexpr std::int64_t kSegmentElements = 65536, kSegmentRows = 1024, kMaxSegments = 64;
// A group of channels up to this size is read a second time from the cache, so statistics and result are one task.
constexpr std::int64_t kCacheBytes = 4 << 20;
// Shorter runs are stored through the caches: a cache line that is written partly by non-temporal and partly by
// ordinary stores is slow. Consecutive rows suffer less.
constexpr std::int64_t kLongRowBytes = 512, kLongPlaneBytes = 2048;
// A byte takes twice as long here as in an update, where kBytesPerThread was measured: 0.022 against 0.011 ns in the
// cache.
constexpr std::int64_t kByteWeight = 2;
constexpr std::int64_t kNarrowestPanel = 64;
constexpr std::int64_t kResultElements = 16384;  // of a task that writes rows

template <class T> const BatchNormTable<T>& kernels_of(const KernelTable& table) {
    if constexpr (sizeof(T) == sizeof(float))
        return table.batch_norm_float32;
    else
        return table.batch_norm_float64;
}

inline std::int64_t divide_up(std::int64_t a, std::int64_t b) {
    return (a + b - 1) / b;
}

// Groups of channels (one channel, or a panel of columns where channels are innermost), each cut into segments.
template <class T> class Tiling {
  public:
    // arrays: how many are read. passes: how often one is read or written, all in all.
    Tiling(Layout layout, int arrays, int passes, bool in_place)
        : layout_(layout.channels == 1 ? Layout{1, 1, layout.size()} : layout),
          panels_(layout_.inner == 1),
          nontemporal_(!in_place && layout.size() * std::int64_t{sizeof(T)} >= kNontemporalBytes &&
                       (panels_ ? layout_.channels * std::int64_t{sizeof(T)} >= kLongRowBytes
                                : layout_.inner * std::int64_t{sizeof(T)} >= kLongPlaneBytes)),
          arrays_(arrays),
          bytes_(layout.size() * std::int64_t{sizeof(T)} * passes * kByteWeight),
          threads_(threads_for(bytes_)),
          kernels(panels_ ? kernels_of<T>(table()).panel : kernels_of<T>(table()).channel) {
        const std::int64_t shortest = panels_ ? kSegmentRows : kSegmentElements;
        segment_ = shortest * divide_up(divide_up(layout_.count(), kMaxSegments), shortest);
        segments_ = segment_ == 0 ? 0 : divide_up(layout_.count(), segment_);
        width_ = panels_ ? panel_width() : 1;
        groups_ = divide_up(layout_.channels, width_);
    }

    std::int64_t segments() const { return segments_; }
    std::int64_t first_channel(std::int64_t group) const { return group * width_; }
    std::int64_t first_element(std::int64_t group) const { return first_channel(group) * layout_.inner; }

    Tile tile(std::int64_t group, std::int64_t segment) const {
        const std::int64_t begin = segment * segment_;
        return {layout_.channels * layout_.inner,
                layout_.inner,
                begin,
                std::min(begin + segment_, layout_.count()),
                std::min(width_, layout_.channels - first_channel(group)),
                nontemporal_};
    }

    // How many elements of each channel the segments from first to last hold.
    double length(std::int64_t first, std::int64_t last) const {
        return static_cast<double>(std::min(last * segment_, layout_.count()) - first * segment_);
    }

    // Calls statistics(group, segment) for all segments of a group, then coefficients(group), then result(group, tile)
    // for tiles that make up the group. Whether that takes one parallel region or more changes no bit.
    template <class Statistics, class Coefficients, class Result>
    void run(const Statistics& statistics, const Coefficients& coefficients, const Result& result) const {
        const auto prepare = [&](std::int64_t group) {
            for (std::int64_t segment = 0; segment < segments_; ++segment) statistics(group, segment);
            coefficients(group);
        };
        const std::int64_t group_bytes = layout_.count() * width_ * arrays_ * std::int64_t{sizeof(T)};
        const bool alone = groups_ == 1 || threads_ == 1, many = groups_ >= 2 * threads_;
        if (segments_ <= 1 ? !panels_ || alone || many : many && group_bytes <= kCacheBytes) {
            in_parallel(groups_, [&](std::int64_t group) {
                prepare(group);
                for (std::int64_t segment = 0; segment < segments_; ++segment) result(group, tile(group, segment));
            });
            return;
        }
        if (segments_ <= 1) {
            in_parallel(groups_, prepare);
        } else {
            in_parallel(groups_ * segments_,
                        [&](std::int64_t task) { statistics(task / segments_, task % segments_); });
            for (std::int64_t group = 0; group < groups_; ++group) coefficients(group);
        }
        write(result);
    }

    // Calls result(group, tile) for tiles that make up the whole. Where channels are innermost these are whole rows:
    // threads that share a row would suffer false sharing, by prefetches too. For (128, 1024) two threads write panels
    // of 512 columns in 15 us, as one does, and rows in 7.
    template <class Result> void write(const Result& result) const {
        if (!panels_) {
            in_parallel(groups_ * segments_,
                        [&](std::int64_t task) { result(task / segments_, tile(task / segments_, task % segments_)); });
            return;
        }
        const std::int64_t rows = divide_up(kResultElements, std::max<std::int64_t>(1, layout_.channels));
        in_parallel(divide_up(layout_.count(), rows), [&](std::int64_t task) {
            const std::int64_t begin = task * rows;
            result(0, Tile{layout_.channels, 1, begin, std::min(begin + rows, layout_.count()), layout_.channels,
                           nontemporal_});
        });
    }

  private:
    // The wider the better for the memory, but where there are no segments to share, the panels are what threads share:
    // as many for each, and only for as many threads as are worth it.
    std::int64_t panel_width() const {
        const std::int64_t rounds = std::max<std::int64_t>(1, divide_up(layout_.channels, threads_ * kPanelColumns));
        const std::int64_t panels = segments_ > 1 ? 1 : threads_ * rounds;
        return std::clamp<std::int64_t>(divide_up(layout_.channels, panels), kNarrowestPanel, kPanelColumns);
    }

    // Two regions of one call follow each other at once. The workers that the first has woken still watch in the
    // second, so either may have as many as are worth waking for the whole call.
    template <class Task> void in_parallel(std::int64_t tasks, const Task& task) const {
        parallel_for(tasks, bytes_, [&](std::int64_t i) {
            const FloatMode mode;
            task(i);
        });
    }

    Layout layout_;
    bool panels_, nontemporal_;
    std::int64_t arrays_, bytes_, threads_;
    std::int64_t segment_, segments_, width_, groups_;

  public:
    const BatchNormKernels<T>& kernels;
};

}  // namespace fusedstep
