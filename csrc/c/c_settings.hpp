// Settings of the C interface, checked, and the programs that follow from them.
#pragma once

#include <cstdint>
#include <cstring>
#include <deque>

#include "fusedstep.h"
#include "rules.hpp"

namespace fusedstep {

struct Resolved {
    const Rule* rule = nullptr;
    std::int64_t t = 0;
    bool stochastic = false;
    std::uint64_t seed = 0;
    Values values = {};

    bool operator==(const Resolved& other) const {
        return rule == other.rule && t == other.t && stochastic == other.stochastic && seed == other.seed &&
               std::memcmp(values, other.values, sizeof values) == 0;
    }
};

// The programs of a step. Neighbours that have the same settings share one.
class Programs {
  public:
    struct Built {
        const fusedstep_settings* settings;
        Resolved resolved;
        Program program;
    };

    explicit Programs(Clipping clipping) : clipping_(clipping) {}

    // scalars: of the parameter, if the rule has any.
    const Built& of(const fusedstep_settings* settings, int arithmetic, const double* scalars);

    void set_clip(double factor) {
        for (Built& each : built_) each.program.set_clip(factor);
    }

  private:
    const Clipping clipping_;
    std::deque<Built> built_;  // which moves none of them
};

}  // namespace fusedstep
