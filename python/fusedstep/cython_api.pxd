# The C interface for Cython: cimport what you need; no include folder and no initialisation is needed. fusedstep.h says
# what the functions do. They return 0, or a code that error_message explains, and then nothing was written.

from libc.stdint cimport int64_t, uint64_t

cdef enum:
    FUSEDSTEP_OK = 0
    FUSEDSTEP_NULL_POINTER = 1
    FUSEDSTEP_BAD_SIZE = 2
    FUSEDSTEP_MISALIGNED = 3
    FUSEDSTEP_OVERLAP = 4
    FUSEDSTEP_OUT_OF_RANGE = 5
    FUSEDSTEP_UNKNOWN_RULE = 6
    FUSEDSTEP_OUT_OF_MEMORY = 7
    FUSEDSTEP_INTERNAL_ERROR = 8
    FUSEDSTEP_COEFFICIENTS = 8

cdef const char* error_message(int code) noexcept nogil
cdef int get_num_threads() noexcept nogil
cdef int set_num_threads(int threads) noexcept nogil

cdef int sgd_float32(int64_t n, float* w, const float* g, double lr, double weight_decay) noexcept nogil
cdef int sgd_float64(int64_t n, double* w, const double* g, double lr, double weight_decay) noexcept nogil

cdef int momentum_float32(
        int64_t n, float* w, const float* g, float* v, double lr, double momentum, double weight_decay) noexcept nogil
cdef int momentum_float64(
        int64_t n, double* w, const double* g, double* v, double lr, double momentum, double weight_decay
    ) noexcept nogil

cdef int nesterov_float32(
        int64_t n, float* w, const float* g, float* v, double lr, double momentum, double weight_decay) noexcept nogil
cdef int nesterov_float64(
        int64_t n, double* w, const double* g, double* v, double lr, double momentum, double weight_decay
    ) noexcept nogil

cdef int adagrad_float32(
        int64_t n, float* w, const float* g, float* h, double lr, double eps, double weight_decay) noexcept nogil
cdef int adagrad_float64(
        int64_t n, double* w, const double* g, double* h, double lr, double eps, double weight_decay) noexcept nogil

cdef int rmsprop_float32(
        int64_t n, float* w, const float* g, float* h, double lr, double decay_rate, double eps, double weight_decay
    ) noexcept nogil
cdef int rmsprop_float64(
        int64_t n, double* w, const double* g, double* h, double lr, double decay_rate, double eps, double weight_decay
    ) noexcept nogil

cdef int adam_float32(
        int64_t n, float* w, const float* g, float* m, float* v, int64_t t, double lr, double beta1, double beta2,
        double eps, double weight_decay) noexcept nogil
cdef int adam_float64(
        int64_t n, double* w, const double* g, double* m, double* v, int64_t t, double lr, double beta1, double beta2,
        double eps, double weight_decay) noexcept nogil

cdef int adamw_float32(
        int64_t n, float* w, const float* g, float* m, float* v, int64_t t, double lr, double beta1, double beta2,
        double eps, double weight_decay) noexcept nogil
cdef int adamw_float64(
        int64_t n, double* w, const double* g, double* m, double* v, int64_t t, double lr, double beta1, double beta2,
        double eps, double weight_decay) noexcept nogil

cdef int update_float32(
        const char* rule, const double* coefficients, double weight_decay, int64_t count, const int64_t* sizes,
        float** w, const float** g, float** state) noexcept nogil
cdef int update_float64(
        const char* rule, const double* coefficients, double weight_decay, int64_t count, const int64_t* sizes,
        double** w, const double** g, double** state) noexcept nogil

cdef int sgd_coefficients(double* coefficients, double lr) noexcept nogil
cdef int momentum_coefficients(double* coefficients, double lr, double momentum) noexcept nogil
cdef int nesterov_coefficients(double* coefficients, double lr, double momentum) noexcept nogil
cdef int adagrad_coefficients(double* coefficients, double lr, double eps, int eps_inside_root) noexcept nogil
cdef int rmsprop_coefficients(
        double* coefficients, double lr, double decay_rate, double eps, int eps_inside_root) noexcept nogil
cdef int adam_coefficients(
        double* coefficients, int64_t t, double lr, double beta1, double beta2, double eps, int eps_inside_root
    ) noexcept nogil
cdef int adamw_coefficients(
        double* coefficients, int64_t t, double lr, double beta1, double beta2, double eps, double weight_decay,
        int eps_inside_root) noexcept nogil

cdef int batch_norm_float32(
        int64_t outer, int64_t channels, int64_t inner, const float* x, float* y, const float* gamma, const float* beta,
        double eps, double* mean, double* var, double* inv_std) noexcept nogil
cdef int batch_norm_float64(
        int64_t outer, int64_t channels, int64_t inner, const double* x, double* y, const double* gamma,
        const double* beta, double eps, double* mean, double* var, double* inv_std) noexcept nogil

cdef int batch_norm_inference_float32(
        int64_t outer, int64_t channels, int64_t inner, const float* x, float* y, const float* gamma, const float* beta,
        const double* mean, const double* var, double eps) noexcept nogil
cdef int batch_norm_inference_float64(
        int64_t outer, int64_t channels, int64_t inner, const double* x, double* y, const double* gamma,
        const double* beta, const double* mean, const double* var, double eps) noexcept nogil

cdef int batch_norm_backward_float32(
        int64_t outer, int64_t channels, int64_t inner, const float* x, const float* dout, float* dx,
        const float* gamma, const double* mean, const double* inv_std, float* dgamma, float* dbeta) noexcept nogil
cdef int batch_norm_backward_float64(
        int64_t outer, int64_t channels, int64_t inner, const double* x, const double* dout, double* dx,
        const double* gamma, const double* mean, const double* inv_std, double* dgamma, double* dbeta) noexcept nogil

cdef int dropout_float32(int64_t n, const float* x, float* y, double rate, uint64_t seed, uint64_t call) noexcept nogil
cdef int dropout_float64(
        int64_t n, const double* x, double* y, double rate, uint64_t seed, uint64_t call) noexcept nogil
