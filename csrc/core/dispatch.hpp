// Which kernel tables this processor can run, and which of them is in use.
#pragma once

#include <string>
#include <vector>

#include "table.hpp"

namespace fusedstep {

// From the plainest to the newest.
std::vector<const KernelTable*> usable_tables();

// The newest usable one until use_table says otherwise.
const KernelTable& table();

// The stage of this name in the table in use, or null.
const Stage* find_stage(const char* name);

// False where no usable table has this name.
bool use_table(const std::string& isa);

}  // namespace fusedstep
