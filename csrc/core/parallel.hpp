// The thread pool: parallel_for over tasks whose number and extent never depend on the number of threads.
#pragma once

#include <cstdint>

namespace fusedstep {

// The caller counts as one. At least 1.
void set_num_threads(int threads);
int num_threads();

// How many parallel regions have begun in this process.
std::int64_t parallel_regions();

// See parallel_for.
void run_parallel(std::int64_t tasks, std::int64_t grain, void (*call)(const void* body, std::int64_t task),
                  const void* body);

// Calls body(0) ... body(tasks - 1), each once, in any order, on the calling thread and the pool's workers, and returns
// when all are done. No thread is called in for fewer than `grain` tasks. body must not throw.
template <class Body> void parallel_for(std::int64_t tasks, std::int64_t grain, const Body& body) {
    const auto call = [](const void* b, std::int64_t task) { (*static_cast<const Body*>(b))(task); };
    run_parallel(tasks, grain, call, &body);
}

}  // namespace fusedstep
