// The table of the C interface.
#include "c_api.hpp"

#include "c_checks.hpp"
#include "c_functions.hpp"
#include "parallel.hpp"

namespace fusedstep {
namespace {

constexpr int kMaxThreads = 1024;  // as in config.py

const char* error_message(int code) noexcept {
    switch (code) {
        case FUSEDSTEP_OK:
            return "no error";
        case FUSEDSTEP_NULL_POINTER:
            return "a pointer is null";
        case FUSEDSTEP_BAD_SIZE:
            return "a size is negative or too large, or there are channels without elements";
        case FUSEDSTEP_MISALIGNED:
            return "a pointer is not aligned to its element";
        case FUSEDSTEP_OVERLAP:
            return "an array that is written overlaps another";
        case FUSEDSTEP_OUT_OF_RANGE:
            return "a hyper-parameter, coefficient, step, index or number of threads is out of range";
        case FUSEDSTEP_UNKNOWN_RULE:
            return "there is no update rule of that name";
        case FUSEDSTEP_UNKNOWN_HYPERPARAMETER:
            return "the rule has no further hyper-parameter of that name, or it is given twice";
        case FUSEDSTEP_UNKNOWN_TYPE:
            return "there is no such storage type";
        case FUSEDSTEP_UNSUPPORTED_TYPE:
            return "the storage type is not supported for this array";
        case FUSEDSTEP_BAD_STRUCT:
            return "a struct has an impossible size, or uses fields that this version does not have";
        case FUSEDSTEP_OUT_OF_MEMORY:
            return "out of memory";
        case FUSEDSTEP_INTERNAL_ERROR:
            return "internal error";
        default:
            return "not an error code of fusedstep";
    }
}

}  // namespace

const fusedstep_api c_api = {
    FUSEDSTEP_API_VERSION,
    sizeof(fusedstep_api),
    error_message,
    num_threads,
    [](int threads) {
        return guarded(nullptr, [&] {
            require(threads >= 1 && threads <= kMaxThreads, FUSEDSTEP_OUT_OF_RANGE, "threads");
            set_num_threads(threads);
        });
    },
    rule_count,
    describe_rule,
    describe_hyperparameter,
    defaults,
    update,
    accumulate,
    gradient_norm,
    batch_norm_training,
    batch_norm_inference,
    batch_norm_backward,
    dropout,
};

}  // namespace fusedstep
