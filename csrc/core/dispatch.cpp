#include "dispatch.hpp"

#include <algorithm>
#include <atomic>
#include <cstring>

namespace fusedstep {

// To add an instruction set: its line in CMakeLists.txt, its declaration and its line in usable_tables.
extern const KernelTable table_baseline;
#ifdef __x86_64__
extern const KernelTable table_x86_64_v3;
#endif

std::vector<const KernelTable*> usable_tables() {
    std::vector<const KernelTable*> tables{&table_baseline};
#ifdef __x86_64__
    // Not every compiler can ask for F16C, which every processor with AVX2 and FMA has.
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("bmi") && __builtin_cpu_supports("bmi2") &&
        __builtin_cpu_supports("fma"))
        tables.push_back(&table_x86_64_v3);
#endif
    return tables;
}

static std::atomic<const KernelTable*>& current() {
    static std::atomic<const KernelTable*> table{usable_tables().back()};
    return table;
}

const KernelTable& table() {
    return *current().load();
}

const Stage* find_stage(const char* name) {
    const Stage *const first = table().stages, *const last = first + table().stage_count;
    const Stage* const found =
        std::find_if(first, last, [=](const Stage& each) { return std::strcmp(each.name, name) == 0; });
    return found == last ? nullptr : found;
}

bool use_table(const std::string& isa) {
    for (const KernelTable* usable : usable_tables()) {
        if (usable->isa == isa) {
            current().store(usable);
            return true;
        }
    }
    return false;
}

}  // namespace fusedstep
