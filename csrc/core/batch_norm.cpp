#include "batch_norm.hpp"

#include <algorithm>
#include <cmath>
#include <memory>

#include "batch_norm_formulas.hpp"
#include "compensated.hpp"
#include "dispatch.hpp"
#include "float_mode.hpp"
#include "parallel.hpp"

namespace fusedstep {
namespace {

// Segments are the unit of the statistics and so part of what fixes the bits: their length depends on the shape alone.
constexpr std::int64_t kSegmentElements = 65536, kSegmentRows = 1024, kMaxSegments = 64;
// A group of channels up to this size is read a second time from the cache, so statistics and result are one task.
constexpr std::int64_t kCacheBytes = 4 << 20;
// Short runs don't go past the caches: a line at the end of one, which is stored in part past them and in part not, is
// slow. Where rows follow each other, less so.
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

std::int64_t divide_up(std::int64_t a, std::int64_t b) {
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

// n elements that are written before they are read.
template <class T> std::unique_ptr<T[]> uninitialized(std::int64_t n) {
    return std::unique_ptr<T[]>(new T[static_cast<std::size_t>(n)]);
}

// Rows of coefficients for the formulas of batch_norm.hpp, as many as Formula has, one element a channel.
template <class T, template <class> class Formula> class Coefficients {
  public:
    explicit Coefficients(const Layout& layout)
        : pitch(layout.channels + kRowPadding), values_(uninitialized<T>(pitch * Formula<T>::coefficients)) {}

    T* of(std::int64_t channel) const { return values_.get() + channel; }

    // mean + mean_rest is the mean.
    template <class... Rest> void set(std::int64_t channel, double mean, double mean_rest, Rest... rest) const {
        T* to = of(channel);
        const T head = static_cast<T>(mean);
        *to = head;
        *(to += pitch) = static_cast<T>((mean - head) + mean_rest);
        ((*(to += pitch) = static_cast<T>(rest)), ...);
    }

    const std::int64_t pitch;

  private:
    static constexpr std::int64_t kRowPadding = 80;  // rows of 4 KiB would map to the same cache sets

    std::unique_ptr<T[]> values_;
};

}  // namespace

template <class T> void batch_norm_training(const Layout& layout, const T* x, T* y, const double* gamma,
                                            const double* beta, double eps, double* mean, double* var,
                                            double* inv_std) {
    const FloatMode mode;  // for the serial parts; tasks make their own
    const Tiling<T> tiling(layout, 1, 3, x == y);
    const std::int64_t channels = layout.channels;
    const double count = static_cast<double>(layout.count());
    const std::int64_t parts = tiling.segments() * channels;
    const auto bases = uninitialized<double>(parts), offsets = uninitialized<double>(parts),
               m2s = uninitialized<double>(parts);
    const Coefficients<T, Normalize> coefficients(layout);
    tiling.run(
        [&](std::int64_t group, std::int64_t segment) {
            const std::int64_t at = segment * channels + tiling.first_channel(group);
            tiling.kernels.moments(x + tiling.first_element(group), tiling.tile(group, segment), &bases[at],
                                   &offsets[at], &m2s[at]);
        },
        [&](std::int64_t group) {
            const std::int64_t first = tiling.first_channel(group), end = first + tiling.tile(group, 0).channels;
            for (std::int64_t segment = 1; segment < tiling.segments(); ++segment) {
                for (std::int64_t c = first; c < end; ++c) {
                    const std::int64_t at = segment * channels + c;
                    Moments all = {tiling.length(0, segment), bases[c], offsets[c], m2s[c]};
                    all.merge({tiling.length(segment, segment + 1), bases[at], offsets[at], m2s[at]});
                    offsets[c] = all.offset;
                    m2s[c] = all.m2;
                }
            }
#pragma GCC ivdep
            for (std::int64_t c = first; c < end; ++c) {
                double sum = bases[c], rest = 0;
                compensated_add(sum, rest, offsets[c]);
                mean[c] = sum;
                var[c] = (m2s[c] < 0 ? 0 : m2s[c]) / count;
                inv_std[c] = 1 / std::sqrt(var[c] + eps);
                coefficients.set(c, sum, rest, gamma[c] * inv_std[c], beta[c]);
            }
        },
        [&](std::int64_t group, const Tile& tile) {
            const std::int64_t element = tiling.first_element(group);
            tiling.kernels.normalize(x + element, y + element, tile, coefficients.of(tiling.first_channel(group)),
                                     coefficients.pitch);
        });
}

template <class T> void batch_norm_inference(const Layout& layout, const T* x, T* y, const double* gamma,
                                             const double* beta, const double* mean, const double* var, double eps) {
    const FloatMode mode;  // for the serial parts; tasks make their own
    const Tiling<T> tiling(layout, 1, 2, x == y);
    const Coefficients<T, Normalize> coefficients(layout);
    for (std::int64_t c = 0; c < layout.channels; ++c)
        coefficients.set(c, mean[c], 0, gamma[c] / std::sqrt(var[c] + eps), beta[c]);
    tiling.write([&](std::int64_t group, const Tile& tile) {
        const std::int64_t element = tiling.first_element(group);
        tiling.kernels.normalize(x + element, y + element, tile, coefficients.of(tiling.first_channel(group)),
                                 coefficients.pitch);
    });
}

template <class T> void batch_norm_backward(const Layout& layout, const T* x, const T* dout, T* dx, const double* gamma,
                                            const double* mean, const double* inv_std, double* dgamma, double* dbeta) {
    const FloatMode mode;  // for the serial parts; tasks make their own
    const Tiling<T> tiling(layout, 2, 5, dx == x || dx == dout);
    const std::int64_t channels = layout.channels;
    const double count = static_cast<double>(layout.count());
    const auto sums = uninitialized<double>(tiling.segments() * channels),
               dots = uninitialized<double>(tiling.segments() * channels);
    const Coefficients<T, Gradient> coefficients(layout);
    for (std::int64_t c = 0; c < channels; ++c) coefficients.set(c, mean[c], 0);
    tiling.run(
        [&](std::int64_t group, std::int64_t segment) {
            const std::int64_t element = tiling.first_element(group), first = tiling.first_channel(group);
            const std::int64_t at = segment * channels + first;
            tiling.kernels.sums(x + element, dout + element, tiling.tile(group, segment), coefficients.of(first),
                                coefficients.pitch, &sums[at], &dots[at]);
        },
        [&](std::int64_t group) {
            const std::int64_t first = tiling.first_channel(group), end = first + tiling.tile(group, 0).channels;
            for (std::int64_t c = first; c < end; ++c) {
                double sum = 0, dot = 0, sum_low = 0, dot_low = 0;
                for (std::int64_t at = c; at < tiling.segments() * channels; at += channels) {
                    compensated_add(sum, sum_low, sums[at]);
                    compensated_add(dot, dot_low, dots[at]);
                }
                dbeta[c] = sum + sum_low;
                dgamma[c] = (dot + dot_low) * inv_std[c];
            }
#pragma GCC ivdep
            for (std::int64_t c = first; c < end; ++c)
                coefficients.set(c, mean[c], 0, gamma[c] * inv_std[c], dbeta[c] / count,
                                 dgamma[c] * inv_std[c] / count);
        },
        [&](std::int64_t group, const Tile& tile) {
            const std::int64_t element = tiling.first_element(group);
            tiling.kernels.gradient(x + element, dout + element, dx + element, tile,
                                    coefficients.of(tiling.first_channel(group)), coefficients.pitch);
        });
}

template void batch_norm_training(const Layout&, const float*, float*, const double*, const double*, double, double*,
                                  double*, double*);
template void batch_norm_training(const Layout&, const double*, double*, const double*, const double*, double, double*,
                                  double*, double*);
template void batch_norm_inference(const Layout&, const float*, float*, const double*, const double*, const double*,
                                   const double*, double);
template void batch_norm_inference(const Layout&, const double*, double*, const double*, const double*, const double*,
                                   const double*, double);
template void batch_norm_backward(const Layout&, const float*, const float*, float*, const double*, const double*,
                                  const double*, double*, double*);
template void batch_norm_backward(const Layout&, const double*, const double*, double*, const double*, const double*,
                                  const double*, double*, double*);

}  // namespace fusedstep
