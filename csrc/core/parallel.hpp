// The thread pool: parallel_for over tasks whose number and extent never depend on the number of threads.
#pragma once

#include <cstdint>

namespace fusedstep {

// The bytes per thread from which a further thread gains more than waking it costs (32768 elements of Adam in float32),
// and from which a worker that is still watching for the next job gains.
constexpr std::int64_t kBytesPerThread = 896 << 10, kBytesPerWatchingThread = 296 << 10;

// The caller counts as one. At least 1.
void set_num_threads(int threads);
int num_threads();

// How many threads are worth having for this many bytes now, the caller included; at least 1, at most num_threads().
std::int64_t threads_for(std::int64_t bytes);

// How many parallel regions have begun in this process.
std::int64_t parallel_regions();

// See parallel_for.
void run_parallel(std::int64_t tasks, std::int64_t bytes, void (*call)(const void* body, std::int64_t task),
                  const void* body);

// Calls body(0) ... body(tasks - 1), each once, in any order, on the calling thread and the pool's workers, and returns
// when all are done. `bytes` is the memory that all tasks together move, reads and writes; at most threads_for(bytes)
// threads take part. body must not throw.
template <class Body> void parallel_for(std::int64_t tasks, std::int64_t bytes, const Body& body) {
    const auto call = [](const void* b, std::int64_t task) { (*static_cast<const Body*>(b))(task); };
    run_parallel(tasks, bytes, call, &body);
}

}  // namespace fusedstep
