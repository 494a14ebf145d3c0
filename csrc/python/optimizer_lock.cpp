#include "optimizer_lock.hpp"

#include <algorithm>
#include <condition_variable>
#include <mutex>
#include <thread>
#include <vector>

#ifndef _WIN32
#include <pthread.h>
#endif

namespace fusedstep {
namespace {

struct Entry {
    const PyObject* optimizer;
    std::thread::id thread;
};

// Nothing of Python is called while the mutex is locked.
struct Table {
    std::mutex mutex;
    std::condition_variable released;
    std::vector<Entry> entries;  // in the order of asking: the first of an optimizer holds its lock

    bool holds(const Entry& entry) const {
        const auto first = std::find_if(entries.begin(), entries.end(),
                                        [&](const Entry& other) { return other.optimizer == entry.optimizer; });
        return first->thread == entry.thread;
    }
};

// Never destroyed: daemon threads outlive the module.
Table* table = new Table;

#ifndef _WIN32
// The threads that hold locks are not in the child, and one may have been inside of the table.
[[maybe_unused]] const int forget_in_child = pthread_atfork(nullptr, nullptr, [] { table = new Table; });
#endif

}  // namespace

OptimizerLock::OptimizerLock(py::handle optimizer) : optimizer_(optimizer.is_none() ? nullptr : optimizer.ptr()) {
    if (!optimizer_) return;
    const Entry entry{optimizer_, std::this_thread::get_id()};
    {
        const std::lock_guard locked(table->mutex);
        table->entries.push_back(entry);
        if (table->holds(entry)) return;
    }
    const WithoutGil released;
    std::unique_lock locked(table->mutex);
    table->released.wait(locked, [&] { return table->holds(entry); });
}

OptimizerLock::~OptimizerLock() {
    if (!optimizer_) return;
    const std::lock_guard locked(table->mutex);
    auto& entries = table->entries;
    const auto own = std::find_if(entries.rbegin(), entries.rend(), [&](const Entry& entry) {
        return entry.optimizer == optimizer_ && entry.thread == std::this_thread::get_id();
    });
    if (own == entries.rend()) return;  // taken before a fork
    entries.erase(std::next(own).base());
    if (!entries.empty()) table->released.notify_all();
}

}  // namespace fusedstep
