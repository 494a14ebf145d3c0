// The protocol. A caller takes the pool (`busy`), or works alone if another caller has it. It describes the job, opens
// it and wakes the workers, then works too. The tasks are dealt out in one contiguous share for each thread, so that a
// repeated job finds its data in the same core's cache; who has finished his share goes on with the others'. When no
// task is left, the caller closes the job, which keeps late workers out, and waits for those inside. Hence a worker
// that the system does not run in time costs nothing.
//
// A forked child has no workers: it forgets the pool, which may be in any state, and makes a new one when it needs it.
// The pool is never destroyed: its workers wait for work until the process ends.
#include "parallel.hpp"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <system_error>
#include <thread>

#ifndef _WIN32
#include <pthread.h>
#endif

namespace fusedstep {
namespace {

constexpr auto kSpin = std::chrono::microseconds(20);  // how long an idle worker watches for the next job

// Spins until ready() or the time is over.
template <class Ready> bool spin(Ready ready) {
    const auto end = std::chrono::steady_clock::now() + kSpin;
    do {
        for (int i = 0; i < 64; ++i) {
            if (ready()) return true;
#if defined(__x86_64__) || defined(__i386__)
            __builtin_ia32_pause();
#elif defined(__aarch64__)
            __asm__ volatile("yield");
#endif
        }
    } while (std::chrono::steady_clock::now() < end);
    return false;
}

struct alignas(64) Share {
    std::atomic<std::int64_t> next;
    std::int64_t end;
};

class Pool {
  public:
    std::mutex busy;

    // The caller holds `busy`.
    void run(int threads, std::int64_t tasks, void (*call)(const void*, std::int64_t), const void* body) {
        threads = add_workers(threads);
        call_ = call;
        body_ = body;
        for (int i = 0; i < threads; ++i) {
            shares_[i].next.store(tasks * i / threads, std::memory_order_relaxed);
            shares_[i].end = tasks * (i + 1) / threads;
        }
        {
            std::lock_guard lock(mutex_);
            threads_ = threads;
            job_.fetch_add(1);
        }
        wake_.notify_all();
        work(0, threads);
        std::unique_lock lock(mutex_);
        threads_ = 0;
        if (inside_.load() != 0) {
            lock.unlock();
            spin([&] { return inside_.load() == 0; });
            lock.lock();
            done_.wait(lock, [&] { return inside_.load() == 0; });
        }
    }

  private:
    // Sees to it that there are workers for so many threads, and returns for how many there are.
    int add_workers(int threads) {
        if (threads > capacity_) {
            shares_ = std::make_unique<Share[]>(threads);
            capacity_ = threads;
        }
        try {
            for (; workers_ + 1 < threads; ++workers_) {
                std::thread([this, index = workers_ + 1, seen = job_.load()] { serve(index, seen); }).detach();
            }
        } catch (const std::system_error&) {
            // The system refuses another thread: go on with those there are.
        }
        return std::min(threads, workers_ + 1);
    }

    void serve(int index, std::uint64_t seen) {
        for (;;) {
            spin([&] { return job_.load() != seen; });
            std::unique_lock lock(mutex_);
            wake_.wait(lock, [&] { return job_.load() != seen; });
            seen = job_.load();
            const int threads = threads_;
            if (index >= threads) continue;
            inside_.fetch_add(1);
            lock.unlock();
            work(index, threads);
            lock.lock();
            if (inside_.fetch_sub(1) == 1) done_.notify_one();
        }
    }

    void work(int index, int threads) {
        for (int i = 0; i < threads; ++i) {
            Share& share = shares_[(index + i) % threads];
            for (std::int64_t task; (task = share.next.fetch_add(1, std::memory_order_relaxed)) < share.end;)
                call_(body_, task);
        }
    }

    std::mutex mutex_;
    std::condition_variable wake_, done_;
    std::atomic<std::uint64_t> job_{0};
    std::atomic<int> inside_{0};  // workers in the job
    int threads_ = 0;             // in the job, the caller included; 0 when it is closed
    int workers_ = 0, capacity_ = 0;
    std::unique_ptr<Share[]> shares_;
    void (*call_)(const void*, std::int64_t) = nullptr;
    const void* body_ = nullptr;
};

std::atomic<Pool*> pool{nullptr};
std::atomic<int> wanted_threads{1};
std::atomic<std::int64_t> regions{0};

#ifndef _WIN32
[[maybe_unused]] const int forget_in_child = pthread_atfork(nullptr, nullptr, [] { pool.store(nullptr); });
#endif

Pool& the_pool() {
    if (Pool* existing = pool.load()) return *existing;
    auto fresh = std::make_unique<Pool>();
    Pool* expected = nullptr;
    return pool.compare_exchange_strong(expected, fresh.get()) ? *fresh.release() : *expected;
}

}  // namespace

void set_num_threads(int threads) {
    wanted_threads.store(threads);
}

int num_threads() {
    return wanted_threads.load();
}

std::int64_t parallel_regions() {
    return regions.load();
}

void run_parallel(std::int64_t tasks, std::int64_t grain, void (*call)(const void*, std::int64_t), const void* body) {
    const std::int64_t threads = std::min<std::int64_t>(num_threads(), tasks / grain);
    if (threads > 1) {
        Pool& shared = the_pool();
        if (std::unique_lock lock(shared.busy, std::try_to_lock); lock) {
            regions.fetch_add(1);
            shared.run(static_cast<int>(threads), tasks, call, body);
            return;
        }
    }
    for (std::int64_t task = 0; task < tasks; ++task) call(body, task);
}

}  // namespace fusedstep
