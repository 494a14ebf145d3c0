// The protocol. A caller takes the pool, or works alone if another caller has it. The tasks are dealt out in one
// contiguous share for each thread, so that a repeated job finds its data in the same core's cache; a thread that runs
// out of work steals from the others.
//
// Every worker has a state of its own, and a job touches only the workers that it needs. The caller invites them; a
// worker joins by moving its state from invited to working. Those that sleep are also woken: the caller wakes the first
// few, each worker that joins wakes a few more. When no task is left, the caller withdraws the invitations that no
// worker has accepted and waits for the workers that have, so a worker that is scheduled late delays nobody.
// Whoever waits spins for a while, but not on the processor on which the other thread last ran.
//
// A forked child has no workers: it forgets the pool, which may be in any state, and makes a new one when it needs it.
// The pool is never destroyed: its workers wait for work until the process ends.
#include "parallel.hpp"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <exception>
#include <memory>
#include <mutex>
#include <new>
#include <thread>
#include <vector>

#ifndef _WIN32
#include <pthread.h>
#endif
#ifdef __linux__
#include <sched.h>
#endif

namespace fusedstep {
namespace {

using Clock = std::chrono::steady_clock;

constexpr auto kSpin = std::chrono::microseconds(20);  // how long an idle worker watches for the next job
// To wake a thread takes the waker 3 to 4 us, and the thread starts after 10. With 4 wakes each, 15 workers are at work
// within 30 us, and the caller loses 14.
constexpr int kWakesPerThread = 4;

// The processor that the calling thread is on; -1 where the system doesn't tell.
int current_cpu() {
#ifdef __linux__
    return sched_getcpu();
#else
    return -1;
#endif
}

// Spins until ready(), for a while; not on other_cpu, where the thread that should get ready can't run meanwhile. Where
// all other processors were taken, a worker that spun there delayed the caller by 20 us.
template <class Ready> bool spin(int other_cpu, Ready ready) {
    if (ready()) return true;
    const auto end = Clock::now() + kSpin;
    do {
        if (other_cpu >= 0 && current_cpu() == other_cpu) return false;
        for (int i = 0; i < 64; ++i) {
            if (ready()) return true;
#if defined(__x86_64__) || defined(__i386__)
            __builtin_ia32_pause();
#elif defined(__aarch64__)
            __asm__ volatile("yield");
#endif
        }
    } while (Clock::now() < end);
    return false;
}

// The tasks from `next` to `end`.
struct Share {
    std::atomic<std::int64_t> next{0};
    std::int64_t end = 0;

    bool has_tasks() const { return next.load(std::memory_order_relaxed) < end; }
};

// One thread of a job; the first member is whoever calls. Its share and its state are in one cache line, because
// whoever writes the one soon writes the other.
class alignas(64) Member {
  public:
    Share share;

    // The caller's side. Returns whether the worker sleeps, so that wake() must follow.
    bool invite(int caller_cpu) {
        caller_cpu_.store(caller_cpu, std::memory_order_relaxed);
        // Only the worker itself moves from one of these two to the other.
        State idle = State::kWatching;
        if (state_.compare_exchange_strong(idle, State::kInvited)) return false;
        state_.store(State::kInvitedAsleep);
        return true;
    }

    void wake() {
        // A worker that is about to wait has the mutex until it does.
        {
            const std::lock_guard lock(mutex_);
        }
        changed_.notify_one();
    }

    // Withdraws an invitation, or waits for the worker that has accepted it to finish.
    void close() {
        State invited = State::kInvited;
        if (state_.compare_exchange_strong(invited, State::kWatching)) return;
        invited = State::kInvitedAsleep;
        if (state_.compare_exchange_strong(invited, State::kAsleep)) return;
        const auto finished = [this] { return state_.load() < State::kWorking; };
        if (spin(worker_cpu_.load(std::memory_order_relaxed), finished)) return;
        std::unique_lock lock(mutex_);
        State working = State::kWorking;
        if (state_.compare_exchange_strong(working, State::kAwaited)) changed_.wait(lock, finished);
    }

    // The worker's side. Returns when the worker is in a job.
    void join() {
        const auto accepted = [this] {
            State state = state_.load();
            if (state != State::kInvited && state != State::kInvitedAsleep) return false;
            worker_cpu_.store(current_cpu(), std::memory_order_relaxed);
            return state_.compare_exchange_strong(state, State::kWorking);
        };
        while (!spin(caller_cpu_.load(std::memory_order_relaxed), accepted)) {
            std::unique_lock lock(mutex_);
            State watching = State::kWatching;
            if (!state_.compare_exchange_strong(watching, State::kAsleep)) continue;
            changed_.wait(lock, accepted);
            return;
        }
    }

    void leave() {
        if (state_.exchange(State::kWatching) == State::kAwaited) wake();
    }

  private:
    // From kWorking on the worker is in the job; kAwaited: and the caller waits to be woken.
    enum class State { kWatching, kAsleep, kInvited, kInvitedAsleep, kWorking, kAwaited };

    std::atomic<State> state_{State::kWatching};
    std::atomic<int> caller_cpu_{-1}, worker_cpu_{-1};  // when they last came to a job
    std::mutex mutex_;
    std::condition_variable changed_;
};

class Pool {
  public:
    // Returns false, and does nothing, if another caller has the pool or no worker can be started.
    bool run(int threads, std::int64_t tasks, void (*call)(const void*, std::int64_t), const void* body) {
        const std::unique_lock lock(busy_, std::try_to_lock);
        if (!lock) return false;
        threads = add_workers(threads);
        if (threads < 2) return false;
        call_ = call;
        body_ = body;
        threads_ = threads;
        for (int i = 0; i < threads; ++i) {
            members_[i]->share.next.store(tasks * i / threads, std::memory_order_relaxed);
            members_[i]->share.end = tasks * (i + 1) / threads;
        }
        invite();
        work(0);
        for (int i = 1; i < threads; ++i) members_[i]->close();
        return true;
    }

  private:
    // Starts missing workers; returns how many threads can take part.
    int add_workers(int threads) {
        try {
            while (static_cast<int>(members_.size()) < threads) {
                // The list grows last, when nothing can fail any more.
                members_.reserve(members_.size() + 1);
                asleep_.reserve(members_.size() + 1);
                auto member = std::make_unique<Member>();
                const int index = static_cast<int>(members_.size());
                if (index > 0) std::thread([this, index, worker = member.get()] { serve(*worker, index); }).detach();
                members_.push_back(std::move(member));
            }
        } catch (const std::exception&) {
            // The system refuses another thread, or memory for it: continue with those there are.
        }
        return std::min(threads, static_cast<int>(members_.size()));
    }

    void invite() {
        asleep_.clear();
        next_asleep_.store(0, std::memory_order_relaxed);
        asleep_count_.store(0, std::memory_order_relaxed);
        const int cpu = current_cpu();
        for (int i = 1; i < threads_; ++i)
            if (members_[i]->invite(cpu)) asleep_.push_back(i);
        // Workers that have joined already read the list from here on.
        asleep_count_.store(static_cast<int>(asleep_.size()), std::memory_order_release);
    }

    // Wakes a few of the workers that sleep, unless their tasks have been stolen.
    void wake_some() {
        for (int i = 0; i < kWakesPerThread; ++i) {
            const int count = asleep_count_.load(std::memory_order_acquire);
            if (next_asleep_.load(std::memory_order_relaxed) >= count) return;
            const int next = next_asleep_.fetch_add(1, std::memory_order_relaxed);
            if (next >= count) return;
            Member& sleeper = *members_[asleep_[next]];
            if (sleeper.share.has_tasks()) sleeper.wake();
        }
    }

    void serve(Member& self, int index) {
        for (;;) {
            self.join();
            work(index);
            self.leave();
        }
    }

    void work(int index) {
        wake_some();
        for (int i = 0; i < threads_; ++i) {
            Share& share = members_[(index + i) % threads_]->share;
            while (share.has_tasks()) {
                const std::int64_t task = share.next.fetch_add(1, std::memory_order_relaxed);
                if (task < share.end) call_(body_, task);
            }
        }
    }

    std::mutex busy_;
    std::vector<std::unique_ptr<Member>> members_;
    // Of the job:
    int threads_ = 0;
    void (*call_)(const void*, std::int64_t) = nullptr;
    const void* body_ = nullptr;
    std::vector<int> asleep_;  // the workers that must be woken
    std::atomic<int> asleep_count_{0}, next_asleep_{0};
};

std::atomic<Pool*> pool{nullptr};
std::atomic<int> wanted_threads{1};
std::atomic<std::int64_t> regions{0};
std::atomic<Clock::time_point> watched_until{Clock::time_point()};  // when the workers of the last job go to sleep

#ifndef _WIN32
[[maybe_unused]] const int forget_in_child = pthread_atfork(nullptr, nullptr, [] { pool.store(nullptr); });
#endif

// Null if there is no memory for one.
Pool* the_pool() {
    if (Pool* existing = pool.load()) return existing;
    std::unique_ptr<Pool> fresh(new (std::nothrow) Pool);
    Pool* expected = nullptr;
    return pool.compare_exchange_strong(expected, fresh.get()) ? fresh.release() : expected;
}

}  // namespace

void set_num_threads(int threads) {
    wanted_threads.store(threads);
}

int num_threads() {
    return wanted_threads.load();
}

std::int64_t threads_for(std::int64_t bytes) {
    if (num_threads() == 1 || bytes < 2 * kBytesPerWatchingThread) return 1;
    const bool watched = Clock::now() < watched_until.load();
    return std::clamp<std::int64_t>(bytes / (watched ? kBytesPerWatchingThread : kBytesPerThread), 1, num_threads());
}

std::int64_t parallel_regions() {
    return regions.load();
}

void run_parallel(std::int64_t tasks, std::int64_t bytes, void (*call)(const void*, std::int64_t), const void* body) {
    const std::int64_t threads = std::min(threads_for(bytes), tasks);
    Pool* const shared = threads > 1 ? the_pool() : nullptr;
    if (shared && shared->run(static_cast<int>(threads), tasks, call, body))
        regions.fetch_add(1);
    else
        for (std::int64_t task = 0; task < tasks; ++task) call(body, task);
    // Set even if this job had no workers, so that a caller with one job after another gets them.
    if (bytes >= 2 * kBytesPerWatchingThread && num_threads() > 1) watched_until.store(Clock::now() + kSpin);
}

}  // namespace fusedstep
