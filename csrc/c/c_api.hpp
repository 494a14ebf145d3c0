// The C interface: the table that fusedstep.h describes.
#pragma once

#include "fusedstep.h"

namespace fusedstep {

extern const fusedstep_api c_api;

}  // namespace fusedstep
