# cython: language_level=3, binding=False, freethreading_compatible=True
"""The C interface for Cython code: `from fusedstep.cython_api cimport adam_float32`. Nothing in it is for Python."""

# The signatures are in cython_api.pxd; those of the table's functions are checked by the C++ compiler.

cdef extern from *:
    """
    #include "fusedstep.h"
    static const fusedstep_api *api;
    static int load_api(void) { return (api = fusedstep_import()) ? 0 : -1; }
    """
    int load_api() except -1

cdef extern from * nogil:
    const char* _error_message "api->error_message"(...)
    int _get_num_threads "api->get_num_threads"(...)
    int _set_num_threads "api->set_num_threads"(...)
    int _sgd_float32 "api->sgd_float32"(...)
    int _sgd_float64 "api->sgd_float64"(...)
    int _momentum_float32 "api->momentum_float32"(...)
    int _momentum_float64 "api->momentum_float64"(...)
    int _nesterov_float32 "api->nesterov_float32"(...)
    int _nesterov_float64 "api->nesterov_float64"(...)
    int _adagrad_float32 "api->adagrad_float32"(...)
    int _adagrad_float64 "api->adagrad_float64"(...)
    int _rmsprop_float32 "api->rmsprop_float32"(...)
    int _rmsprop_float64 "api->rmsprop_float64"(...)
    int _adam_float32 "api->adam_float32"(...)
    int _adam_float64 "api->adam_float64"(...)
    int _adamw_float32 "api->adamw_float32"(...)
    int _adamw_float64 "api->adamw_float64"(...)
    int _update_float32 "api->update_float32"(...)
    int _update_float64 "api->update_float64"(...)
    int _sgd_coefficients "api->sgd_coefficients"(...)
    int _momentum_coefficients "api->momentum_coefficients"(...)
    int _nesterov_coefficients "api->nesterov_coefficients"(...)
    int _adagrad_coefficients "api->adagrad_coefficients"(...)
    int _rmsprop_coefficients "api->rmsprop_coefficients"(...)
    int _adam_coefficients "api->adam_coefficients"(...)
    int _adamw_coefficients "api->adamw_coefficients"(...)
    int _batch_norm_float32 "api->batch_norm_float32"(...)
    int _batch_norm_float64 "api->batch_norm_float64"(...)
    int _batch_norm_inference_float32 "api->batch_norm_inference_float32"(...)
    int _batch_norm_inference_float64 "api->batch_norm_inference_float64"(...)
    int _batch_norm_backward_float32 "api->batch_norm_backward_float32"(...)
    int _batch_norm_backward_float64 "api->batch_norm_backward_float64"(...)
    int _dropout_float32 "api->dropout_float32"(...)
    int _dropout_float64 "api->dropout_float64"(...)

load_api()

cdef const char* error_message(int code) noexcept nogil:
    return _error_message(code)

cdef int get_num_threads() noexcept nogil:
    return _get_num_threads()

cdef int set_num_threads(int threads) noexcept nogil:
    return _set_num_threads(threads)

cdef int sgd_float32(int64_t n, float* w, const float* g, double lr, double weight_decay) noexcept nogil:
    return _sgd_float32(n, w, g, lr, weight_decay)

cdef int sgd_float64(int64_t n, double* w, const double* g, double lr, double weight_decay) noexcept nogil:
    return _sgd_float64(n, w, g, lr, weight_decay)

cdef int momentum_float32(
        int64_t n, float* w, const float* g, float* v, double lr, double momentum, double weight_decay) noexcept nogil:
    return _momentum_float32(n, w, g, v, lr, momentum, weight_decay)

cdef int momentum_float64(
        int64_t n, double* w, const double* g, double* v, double lr, double momentum, double weight_decay
    ) noexcept nogil:
    return _momentum_float64(n, w, g, v, lr, momentum, weight_decay)

cdef int nesterov_float32(
        int64_t n, float* w, const float* g, float* v, double lr, double momentum, double weight_decay) noexcept nogil:
    return _nesterov_float32(n, w, g, v, lr, momentum, weight_decay)

cdef int nesterov_float64(
        int64_t n, double* w, const double* g, double* v, double lr, double momentum, double weight_decay
    ) noexcept nogil:
    return _nesterov_float64(n, w, g, v, lr, momentum, weight_decay)

cdef int adagrad_float32(
        int64_t n, float* w, const float* g, float* h, double lr, double eps, double weight_decay) noexcept nogil:
    return _adagrad_float32(n, w, g, h, lr, eps, weight_decay)

cdef int adagrad_float64(
        int64_t n, double* w, const double* g, double* h, double lr, double eps, double weight_decay) noexcept nogil:
    return _adagrad_float64(n, w, g, h, lr, eps, weight_decay)

cdef int rmsprop_float32(
        int64_t n, float* w, const float* g, float* h, double lr, double decay_rate, double eps, double weight_decay
    ) noexcept nogil:
    return _rmsprop_float32(n, w, g, h, lr, decay_rate, eps, weight_decay)

cdef int rmsprop_float64(
        int64_t n, double* w, const double* g, double* h, double lr, double decay_rate, double eps, double weight_decay
    ) noexcept nogil:
    return _rmsprop_float64(n, w, g, h, lr, decay_rate, eps, weight_decay)

cdef int adam_float32(
        int64_t n, float* w, const float* g, float* m, float* v, int64_t t, double lr, double beta1, double beta2,
        double eps, double weight_decay) noexcept nogil:
    return _adam_float32(n, w, g, m, v, t, lr, beta1, beta2, eps, weight_decay)

cdef int adam_float64(
        int64_t n, double* w, const double* g, double* m, double* v, int64_t t, double lr, double beta1, double beta2,
        double eps, double weight_decay) noexcept nogil:
    return _adam_float64(n, w, g, m, v, t, lr, beta1, beta2, eps, weight_decay)

cdef int adamw_float32(
        int64_t n, float* w, const float* g, float* m, float* v, int64_t t, double lr, double beta1, double beta2,
        double eps, double weight_decay) noexcept nogil:
    return _adamw_float32(n, w, g, m, v, t, lr, beta1, beta2, eps, weight_decay)

cdef int adamw_float64(
        int64_t n, double* w, const double* g, double* m, double* v, int64_t t, double lr, double beta1, double beta2,
        double eps, double weight_decay) noexcept nogil:
    return _adamw_float64(n, w, g, m, v, t, lr, beta1, beta2, eps, weight_decay)

cdef int update_float32(
        const char* rule, const double* coefficients, double weight_decay, int64_t count, const int64_t* sizes,
        float** w, const float** g, float** state) noexcept nogil:
    return _update_float32(rule, coefficients, weight_decay, count, sizes, w, g, state)

cdef int update_float64(
        const char* rule, const double* coefficients, double weight_decay, int64_t count, const int64_t* sizes,
        double** w, const double** g, double** state) noexcept nogil:
    return _update_float64(rule, coefficients, weight_decay, count, sizes, w, g, state)

cdef int sgd_coefficients(double* coefficients, double lr) noexcept nogil:
    return _sgd_coefficients(coefficients, lr)

cdef int momentum_coefficients(double* coefficients, double lr, double momentum) noexcept nogil:
    return _momentum_coefficients(coefficients, lr, momentum)

cdef int nesterov_coefficients(double* coefficients, double lr, double momentum) noexcept nogil:
    return _nesterov_coefficients(coefficients, lr, momentum)

cdef int adagrad_coefficients(double* coefficients, double lr, double eps, int eps_inside_root) noexcept nogil:
    return _adagrad_coefficients(coefficients, lr, eps, eps_inside_root)

cdef int rmsprop_coefficients(
        double* coefficients, double lr, double decay_rate, double eps, int eps_inside_root) noexcept nogil:
    return _rmsprop_coefficients(coefficients, lr, decay_rate, eps, eps_inside_root)

cdef int adam_coefficients(
        double* coefficients, int64_t t, double lr, double beta1, double beta2, double eps, int eps_inside_root
    ) noexcept nogil:
    return _adam_coefficients(coefficients, t, lr, beta1, beta2, eps, eps_inside_root)

cdef int adamw_coefficients(
        double* coefficients, int64_t t, double lr, double beta1, double beta2, double eps, double weight_decay,
        int eps_inside_root) noexcept nogil:
    return _adamw_coefficients(coefficients, t, lr, beta1, beta2, eps, weight_decay, eps_inside_root)

cdef int batch_norm_float32(
        int64_t outer, int64_t channels, int64_t inner, const float* x, float* y, const float* gamma, const float* beta,
        double eps, double* mean, double* var, double* inv_std) noexcept nogil:
    return _batch_norm_float32(outer, channels, inner, x, y, gamma, beta, eps, mean, var, inv_std)

cdef int batch_norm_float64(
        int64_t outer, int64_t channels, int64_t inner, const double* x, double* y, const double* gamma,
        const double* beta, double eps, double* mean, double* var, double* inv_std) noexcept nogil:
    return _batch_norm_float64(outer, channels, inner, x, y, gamma, beta, eps, mean, var, inv_std)

cdef int batch_norm_inference_float32(
        int64_t outer, int64_t channels, int64_t inner, const float* x, float* y, const float* gamma, const float* beta,
        const double* mean, const double* var, double eps) noexcept nogil:
    return _batch_norm_inference_float32(outer, channels, inner, x, y, gamma, beta, mean, var, eps)

cdef int batch_norm_inference_float64(
        int64_t outer, int64_t channels, int64_t inner, const double* x, double* y, const double* gamma,
        const double* beta, const double* mean, const double* var, double eps) noexcept nogil:
    return _batch_norm_inference_float64(outer, channels, inner, x, y, gamma, beta, mean, var, eps)

cdef int batch_norm_backward_float32(
        int64_t outer, int64_t channels, int64_t inner, const float* x, const float* dout, float* dx,
        const float* gamma, const double* mean, const double* inv_std, float* dgamma, float* dbeta) noexcept nogil:
    return _batch_norm_backward_float32(outer, channels, inner, x, dout, dx, gamma, mean, inv_std, dgamma, dbeta)

cdef int batch_norm_backward_float64(
        int64_t outer, int64_t channels, int64_t inner, const double* x, const double* dout, double* dx,
        const double* gamma, const double* mean, const double* inv_std, double* dgamma, double* dbeta) noexcept nogil:
    return _batch_norm_backward_float64(outer, channels, inner, x, dout, dx, gamma, mean, inv_std, dgamma, dbeta)

cdef int dropout_float32(int64_t n, const float* x, float* y, double rate, uint64_t seed, uint64_t call) noexcept nogil:
    return _dropout_float32(n, x, y, rate, seed, call)

cdef int dropout_float64(
        int64_t n, const double* x, double* y, double rate, uint64_t seed, uint64_t call) noexcept nogil:
    return _dropout_float64(n, x, y, rate, seed, call)
