// The limit of an update: the reads and writes of a rule in the pool and the chunks of an update, and next to no
// arithmetic. Built by benchmarks/limit.py, once per instruction set.
#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <utility>

#include "parallel.hpp"

namespace {

constexpr int kMaxStates = 4;
constexpr std::int64_t kChunk = 16384;  // as in csrc/core/step.cpp

// benchmarks/limit.py declares the same two structs.
struct Item {
    std::int64_t end;              // in the concatenation of all items
    void* arrays[2 + kMaxStates];  // parameter, gradient, states
};

struct Job {
    std::int64_t parameter_bytes, state_bytes;  // of an element; a gradient's are those of the parameter
    std::int64_t states;
    std::int64_t items;
    const Item* first;
    std::uint64_t mask;  // 0, but the compiler can't assume it
    std::int64_t whole;  // whether the gradients are read once more before, as for a norm, and zeros are left in them
    std::int64_t reads;  // arrays that are read once before
};

// Integers keep every bit of weights and states, NaN and subnormal numbers included.
template <bool kZeroes, class P, class... S>
void touch(std::int64_t n, P mask, P* __restrict w, P* __restrict g, S* __restrict... state) {
    for (std::int64_t i = 0; i < n; ++i) {
        const P zero = g[i] & mask;
        w[i] = static_cast<P>(w[i] + zero);
        ((state[i] = static_cast<S>(state[i] + zero)), ...);
        if constexpr (kZeroes) g[i] = zero;
    }
}

unsigned any_bits(std::int64_t n, const unsigned char* bytes) {
    unsigned char any = 0;
    for (std::int64_t i = 0; i < n; ++i) any |= bytes[i];
    return any;
}

using Loop = void (*)(const Job& job, void* const* arrays, std::int64_t begin, std::int64_t end);

template <bool kZeroes, class P, class S, std::size_t... K> constexpr Loop loop(std::index_sequence<K...>) {
    return [](const Job& job, void* const* a, std::int64_t begin, std::int64_t end) {
        touch<kZeroes>(end - begin, static_cast<P>(job.mask), static_cast<P*>(a[0]) + begin,
                       static_cast<P*>(a[1]) + begin, (static_cast<S*>(a[2 + K]) + begin)...);
    };
}

template <class P, class S, std::size_t... N> Loop with_states(const Job& job, std::index_sequence<N...>) {
    constexpr Loop loops[][sizeof...(N)] = {{loop<false, P, S>(std::make_index_sequence<N>{})...},
                                            {loop<true, P, S>(std::make_index_sequence<N>{})...}};
    return loops[job.whole != 0][job.states];
}

Loop loop_of(const Job& job) {
    constexpr auto counts = std::make_index_sequence<kMaxStates + 1>{};
    if (job.states < 0 || job.states > kMaxStates) return nullptr;
    switch (10 * job.parameter_bytes + job.state_bytes) {
        case 22:
            return with_states<std::uint16_t, std::uint16_t>(job, counts);
        case 24:
            return with_states<std::uint16_t, std::uint32_t>(job, counts);
        case 42:
            return with_states<std::uint32_t, std::uint16_t>(job, counts);
        case 44:
            return with_states<std::uint32_t, std::uint32_t>(job, counts);
        case 88:
            return with_states<std::uint64_t, std::uint64_t>(job, counts);
        default:
            return nullptr;
    }
}

// Calls part(item, begin, end) for parts of items, the ends being those within the item; bytes: moved for each element.
template <class Part> void in_parts(const Job& job, std::int64_t bytes, const Part& part) {
    const Item* const last = job.first + job.items;
    const std::int64_t total = job.items ? last[-1].end : 0;
    fusedstep::parallel_for((total + kChunk - 1) / kChunk, total * bytes, [&](std::int64_t chunk) {
        std::int64_t begin = chunk * kChunk;
        const std::int64_t end = std::min(begin + kChunk, total);
        const Item* item = std::upper_bound(job.first, last, begin, [](auto at, const Item& i) { return at < i.end; });
        for (; begin < end; ++item) {
            const std::int64_t start = item == job.first ? 0 : item[-1].end, stop = std::min(item->end, end);
            part(*item, begin - start, stop - start);
            begin = stop;
        }
    });
}

}  // namespace

// Returns 0, or 1 where there is no loop for the job's sizes or number of states.
extern "C" int fusedstep_limit(const Job* given, int threads) {
    Job job = *given;
    const Loop loop = loop_of(job);
    if (!loop) return 1;
    fusedstep::set_num_threads(threads);
    const std::int64_t size = job.parameter_bytes;
    if (job.whole || job.reads) {
        std::atomic<unsigned> any{0};
        const auto read = [&](const Item& item, std::int64_t array, std::int64_t begin, std::int64_t end) {
            any |= any_bits((end - begin) * size, static_cast<const unsigned char*>(item.arrays[array]) + begin * size);
        };
        // A gradient that is read once more is so in a pass of its own: it would be in the cache still.
        const std::int64_t arrays = job.whole ? 0 : std::min(job.reads, 2 + job.states);
        if (arrays != 0)
            in_parts(job, arrays * size, [&](const Item& item, std::int64_t begin, std::int64_t end) {
                for (std::int64_t i = 0; i < arrays; ++i) read(item, i, begin, end);
            });
        for (std::int64_t i = arrays; i < (job.whole ? 1 : job.reads); ++i)
            in_parts(job, size,
                     [&](const Item& item, std::int64_t begin, std::int64_t end) { read(item, 1, begin, end); });
        job.mask &= any * 0x0101010101010101u;  // so the compiler can't leave these reads out
    }
    const std::int64_t bytes = (job.whole ? 4 : 3) * size + 2 * job.states * job.state_bytes;
    in_parts(job, bytes,
             [&](const Item& item, std::int64_t begin, std::int64_t end) { loop(job, item.arrays, begin, end); });
    return 0;
}
