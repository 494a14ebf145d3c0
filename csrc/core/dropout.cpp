#include "dropout.hpp"

#include <algorithm>
#include <cmath>

#include "dispatch.hpp"
#include "float_mode.hpp"
#include "parallel.hpp"

namespace fusedstep {

constexpr double kLargestPlainRate = 1 - 1.0 / 65536;

DropoutMask dropout_mask(double rate, std::uint64_t seed, std::uint64_t call) {
    const FloatMode mode;
    const double threshold = std::min(std::nearbyint(std::ldexp(rate, 32)), 4294967295.0);
    // Near 1 the rounding of the rate would be a large part of what is kept.
    if (rate > kLargestPlainRate) rate = std::ldexp(threshold, -32);
    volatile double scale = rate;  // else the compiler may do the arithmetic outside of the mode
    scale = 1 - scale;
    scale = 1 / scale;
    return {seed, call, static_cast<std::uint32_t>(threshold), scale};
}

void dropout(const void* x, void* y, int type, std::int64_t size, const DropoutMask& mask) {
    constexpr std::int64_t kTaskElements = 256 * kDropoutElements;
    // The random bits take the time, and they are as many for either type: an element takes as long (0.4 ns) as the 28
    // bytes of one of Adam's (0.3 ns), by which kBytesPerThread is measured.
    constexpr std::int64_t kEffectiveBytes = 28;
    const DropoutFunction function = table().dropout[type];
    const std::int64_t item = type == kFloat32 ? sizeof(float) : sizeof(double);
    const bool nontemporal = x != y && size * item >= kNontemporalBytes;
    const std::int64_t tasks = (size + kTaskElements - 1) / kTaskElements;
    parallel_for(tasks, size * kEffectiveBytes, [&](std::int64_t task) {
        const FloatMode mode;
        const std::int64_t begin = task * kTaskElements, n = std::min(kTaskElements, size - begin);
        function(static_cast<const char*>(x) + begin * item, static_cast<char*>(y) + begin * item, begin, n, mask,
                 nontemporal);
    });
}

}  // namespace fusedstep
