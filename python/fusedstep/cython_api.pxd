# fusedstep.h for Cython, which documents what is declared here. To build: include_dirs=[fusedstep.get_include()].
#
#     from fusedstep.cython_api cimport fusedstep_api, fusedstep_import
#     cdef const fusedstep_api* fs = fusedstep_import()

from libc.stdint cimport int32_t, int64_t, uint64_t

cdef extern from "fusedstep.h":
    enum:
        FUSEDSTEP_API_VERSION
        FUSEDSTEP_MAX_STATES
        FUSEDSTEP_MAX_SCALARS

        FUSEDSTEP_OK
        FUSEDSTEP_NULL_POINTER
        FUSEDSTEP_BAD_SIZE
        FUSEDSTEP_MISALIGNED
        FUSEDSTEP_OVERLAP
        FUSEDSTEP_OUT_OF_RANGE
        FUSEDSTEP_UNKNOWN_RULE
        FUSEDSTEP_UNKNOWN_HYPERPARAMETER
        FUSEDSTEP_UNKNOWN_TYPE
        FUSEDSTEP_UNSUPPORTED_TYPE
        FUSEDSTEP_BAD_STRUCT
        FUSEDSTEP_OUT_OF_MEMORY
        FUSEDSTEP_INTERNAL_ERROR

        FUSEDSTEP_FLOAT32
        FUSEDSTEP_FLOAT64
        FUSEDSTEP_FLOAT16
        FUSEDSTEP_BFLOAT16

    ctypedef struct fusedstep_error:
        size_t size
        int64_t item
        const char* field

    ctypedef struct fusedstep_rule:
        const char* name
        const char* states[FUSEDSTEP_MAX_STATES]
        int32_t state_count
        int32_t hyperparameter_count
        const char* starts[FUSEDSTEP_MAX_STATES]
        const char* scalars[FUSEDSTEP_MAX_SCALARS]
        double scalar_starts[FUSEDSTEP_MAX_SCALARS]
        int64_t scalar_count
        const char* shapes[FUSEDSTEP_MAX_STATES]

    ctypedef struct fusedstep_hyperparameter:
        const char* name
        double default_value, minimum, maximum
        int32_t is_flag
        int32_t is_option

    ctypedef struct fusedstep_option:
        const char* name
        double value

    ctypedef struct fusedstep_settings:
        size_t size
        const char* rule
        int64_t t
        double lr
        double weight_decay
        double decoupled
        double scale
        const fusedstep_option* options
        int64_t option_count
        int64_t stochastic
        uint64_t seed

    ctypedef struct fusedstep_item:
        int64_t n
        void* parameter
        const void* gradient
        const fusedstep_settings* settings
        void* state[FUSEDSTEP_MAX_STATES]
        int32_t parameter_type
        int32_t gradient_type
        int32_t state_type
        int32_t copy_type
        void* copy
        void* average
        int64_t zero_gradient
        int64_t row_size
        const int64_t* rows
        int64_t row_count
        double* scalars
        int64_t matrix_rows
        int64_t matrix_columns

    ctypedef struct fusedstep_gradients:
        size_t size
        int32_t clips
        int32_t skip_nonfinite
        int32_t norm_is_known
        int32_t skipped
        double clip_norm
        double gradient_norm

    ctypedef struct fusedstep_batch_norm_training:
        size_t size
        int64_t type
        int64_t outer, channels, inner
        const void* x
        void* y
        const void* gamma
        const void* beta
        double eps
        double* mean
        double* var
        double* inv_std

    ctypedef struct fusedstep_batch_norm_inference:
        size_t size
        int64_t type
        int64_t outer, channels, inner
        const void* x
        void* y
        const void* gamma
        const void* beta
        double eps
        const double* mean
        const double* var

    ctypedef struct fusedstep_batch_norm_backward:
        size_t size
        int64_t type
        int64_t outer, channels, inner
        const void* x
        const void* dout
        void* dx
        const void* gamma
        const double* mean
        const double* inv_std
        void* dgamma
        void* dbeta

    ctypedef struct fusedstep_dropout:
        size_t size
        int64_t type
        int64_t n
        const void* x
        void* y
        double rate
        uint64_t seed, call

    ctypedef struct fusedstep_api:
        int32_t version
        int32_t size
        const char* (*error_message)(int code) noexcept nogil
        int (*get_num_threads)() noexcept nogil
        int (*set_num_threads)(int threads) noexcept nogil
        int32_t (*rule_count)() noexcept nogil
        int (*describe_rule)(int32_t index, fusedstep_rule* rule, size_t size) noexcept nogil
        int (*describe_hyperparameter)(
            const char* rule, int32_t index, fusedstep_hyperparameter* result, size_t size) noexcept nogil
        int (*defaults)(const char* rule, fusedstep_settings* settings, size_t size) noexcept nogil
        int (*update)(
            int64_t count, const fusedstep_item* items, size_t item_size, fusedstep_gradients* gradients,
            fusedstep_error* error) noexcept nogil
        int (*accumulate)(
            int64_t count, const fusedstep_item* items, size_t item_size, double scale, double* norm,
            fusedstep_error* error) noexcept nogil
        int (*gradient_norm)(
            int64_t count, const fusedstep_item* items, size_t item_size, double* norm,
            fusedstep_error* error) noexcept nogil
        int (*batch_norm_training)(
            const fusedstep_batch_norm_training* call, fusedstep_error* error) noexcept nogil
        int (*batch_norm_inference)(
            const fusedstep_batch_norm_inference* call, fusedstep_error* error) noexcept nogil
        int (*batch_norm_backward)(
            const fusedstep_batch_norm_backward* call, fusedstep_error* error) noexcept nogil
        int (*dropout)(const fusedstep_dropout* call, fusedstep_error* error) noexcept nogil

    const fusedstep_api* fusedstep_import() except NULL
