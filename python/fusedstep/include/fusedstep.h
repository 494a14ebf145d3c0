/* The C interface of fusedstep: the kernels for code that holds plain pointers, callable without the GIL.
 *
 *     #include <Python.h>                               before the next, else fusedstep_import() is not there
 *     #include <fusedstep.h>                            in the folder that fusedstep.get_include() names
 *
 *     const fusedstep_api *fs = fusedstep_import();     once, with the GIL; NULL with a Python exception if it fails
 *     int code = fs->adam_float32(n, w, g, m, v, t, 1e-3, 0.9, 0.999, 1e-8, 0);
 *     if (code != FUSEDSTEP_OK) puts(fs->error_message(code));
 *
 * What holds for all functions:
 *   - Arrays are contiguous, aligned to their elements, and as long as the sizes say. A null pointer is an error unless
 *     the array has no elements.
 *   - The result is FUSEDSTEP_OK or another of the codes below; then nothing was written.
 *   - Hyper-parameters have the ranges of the Python interface: finite and not negative, momentum at most 1, beta1, beta2,
 *     decay_rate and rate below 1. A coefficient that overflows is out of range too (there it goes on as an infinity).
 *   - They give the bits of the Python interface, may be called from several threads at once, use fusedstep's threads
 *     (set_num_threads), flush subnormal numbers as fusedstep.set_flush_subnormals says, and need no Python.
 */
#ifndef FUSEDSTEP_H
#define FUSEDSTEP_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Within a version functions keep their meaning, and new ones come at the end of the table. */
#define FUSEDSTEP_API_VERSION 1
#define FUSEDSTEP_CAPSULE "fusedstep._native.c_api"

enum {
    FUSEDSTEP_OK = 0,
    FUSEDSTEP_NULL_POINTER = 1,
    FUSEDSTEP_BAD_SIZE = 2,       /* negative, or past the end of the address space; or channels without elements */
    FUSEDSTEP_MISALIGNED = 3,     /* a pointer is not a multiple of its element's size */
    FUSEDSTEP_OVERLAP = 4,        /* what is written shares memory with another array of the call */
    FUSEDSTEP_OUT_OF_RANGE = 5,   /* a hyper-parameter, a coefficient, t or a number of threads */
    FUSEDSTEP_UNKNOWN_RULE = 6,
    FUSEDSTEP_OUT_OF_MEMORY = 7,
    FUSEDSTEP_INTERNAL_ERROR = 8
};

/* The room for a rule's coefficients. */
#define FUSEDSTEP_COEFFICIENTS 8

typedef struct fusedstep_api {
    int32_t version; /* FUSEDSTEP_API_VERSION of the library */
    int32_t size;    /* of this table in bytes */

    const char *(*error_message)(int code);
    int (*get_num_threads)(void);
    int (*set_num_threads)(int threads);

    /* One step on one array of n weights w with their gradients g, in place. The state arrays (v, h, or m and v) are
     * zeros before the first step. t counts steps from 1. weight_decay is L2 (g + weight_decay w takes the place of g)
     * but for AdamW, whose kind is decoupled. The rules are those of fusedstep.SGD, Momentum, ... with their defaults
     * for what has no argument here. g may overlap the other arrays: it is copied first. */
    int (*sgd_float32)(int64_t n, float *w, const float *g, double lr, double weight_decay);
    int (*sgd_float64)(int64_t n, double *w, const double *g, double lr, double weight_decay);
    int (*momentum_float32)(int64_t n, float *w, const float *g, float *v, double lr, double momentum,
                            double weight_decay);
    int (*momentum_float64)(int64_t n, double *w, const double *g, double *v, double lr, double momentum,
                            double weight_decay);
    int (*nesterov_float32)(int64_t n, float *w, const float *g, float *v, double lr, double momentum,
                            double weight_decay);
    int (*nesterov_float64)(int64_t n, double *w, const double *g, double *v, double lr, double momentum,
                            double weight_decay);
    int (*adagrad_float32)(int64_t n, float *w, const float *g, float *h, double lr, double eps, double weight_decay);
    int (*adagrad_float64)(int64_t n, double *w, const double *g, double *h, double lr, double eps,
                           double weight_decay);
    int (*rmsprop_float32)(int64_t n, float *w, const float *g, float *h, double lr, double decay_rate, double eps,
                           double weight_decay);
    int (*rmsprop_float64)(int64_t n, double *w, const double *g, double *h, double lr, double decay_rate, double eps,
                           double weight_decay);
    int (*adam_float32)(int64_t n, float *w, const float *g, float *m, float *v, int64_t t, double lr, double beta1,
                        double beta2, double eps, double weight_decay);
    int (*adam_float64)(int64_t n, double *w, const double *g, double *m, double *v, int64_t t, double lr,
                        double beta1, double beta2, double eps, double weight_decay);
    int (*adamw_float32)(int64_t n, float *w, const float *g, float *m, float *v, int64_t t, double lr, double beta1,
                         double beta2, double eps, double weight_decay);
    int (*adamw_float64)(int64_t n, double *w, const double *g, double *m, double *v, int64_t t, double lr,
                         double beta1, double beta2, double eps, double weight_decay);

    /* One step on many arrays, in one parallel region: array i has sizes[i] weights. state holds the state arrays of
     * the first, then those of the second, and so on; it may be null for a rule without state. Arrays that share memory
     * are updated one after the other.
     *
     * rule is "sgd", "momentum", "momentum_plain_velocity", "nesterov", "nesterov_new_velocity", "adagrad", "rmsprop",
     * "adam" or "adamw". Its coefficients come from the function of its name below (the two of momentum and the two of
     * nesterov share one). weight_decay is L2, and 0 for AdamW, whose coefficients have it. */
    int (*update_float32)(const char *rule, const double *coefficients, double weight_decay, int64_t count,
                          const int64_t *sizes, float *const *w, const float *const *g, float *const *state);
    int (*update_float64)(const char *rule, const double *coefficients, double weight_decay, int64_t count,
                          const int64_t *sizes, double *const *w, const double *const *g, double *const *state);

    /* They write FUSEDSTEP_COEFFICIENTS numbers. eps_inside_root: sqrt(. + eps) takes the place of sqrt(.) + eps. */
    int (*sgd_coefficients)(double *coefficients, double lr);
    int (*momentum_coefficients)(double *coefficients, double lr, double momentum);
    int (*nesterov_coefficients)(double *coefficients, double lr, double momentum);
    int (*adagrad_coefficients)(double *coefficients, double lr, double eps, int eps_inside_root);
    int (*rmsprop_coefficients)(double *coefficients, double lr, double decay_rate, double eps, int eps_inside_root);
    int (*adam_coefficients)(double *coefficients, int64_t t, double lr, double beta1, double beta2, double eps,
                             int eps_inside_root);
    int (*adamw_coefficients)(double *coefficients, int64_t t, double lr, double beta1, double beta2, double eps,
                              double weight_decay, int eps_inside_root);

    /* Batch normalisation of x[outer][channels][inner]: (N, C) has inner 1, (N, C, H, W) has inner H W, channels last
     * has outer N H W and inner 1. y may be x, dx may be x or dout. One number for each channel: gamma, beta, mean, var
     * (biased), inv_std = 1 / sqrt(var + eps), dgamma, dbeta. */
    int (*batch_norm_float32)(int64_t outer, int64_t channels, int64_t inner, const float *x, float *y,
                              const float *gamma, const float *beta, double eps, double *mean, double *var,
                              double *inv_std);
    int (*batch_norm_float64)(int64_t outer, int64_t channels, int64_t inner, const double *x, double *y,
                              const double *gamma, const double *beta, double eps, double *mean, double *var,
                              double *inv_std);
    int (*batch_norm_inference_float32)(int64_t outer, int64_t channels, int64_t inner, const float *x, float *y,
                                        const float *gamma, const float *beta, const double *mean, const double *var,
                                        double eps);
    int (*batch_norm_inference_float64)(int64_t outer, int64_t channels, int64_t inner, const double *x, double *y,
                                        const double *gamma, const double *beta, const double *mean,
                                        const double *var, double eps);
    int (*batch_norm_backward_float32)(int64_t outer, int64_t channels, int64_t inner, const float *x,
                                       const float *dout, float *dx, const float *gamma, const double *mean,
                                       const double *inv_std, float *dgamma, float *dbeta);
    int (*batch_norm_backward_float64)(int64_t outer, int64_t channels, int64_t inner, const double *x,
                                       const double *dout, double *dx, const double *gamma, const double *mean,
                                       const double *inv_std, double *dgamma, double *dbeta);

    /* y[i] = x[i] (1 / (1 - rate) if kept else 0), as fusedstep.dropout; y may be x. */
    int (*dropout_float32)(int64_t n, const float *x, float *y, double rate, uint64_t seed, uint64_t call);
    int (*dropout_float64)(int64_t n, const double *x, double *y, double rate, uint64_t seed, uint64_t call);
} fusedstep_api;

#ifdef Py_PYTHON_H
/* The table of functions, which lives as long as the process. Needs the GIL. */
static inline const fusedstep_api *fusedstep_import(void) {
    const fusedstep_api *api = (const fusedstep_api *)PyCapsule_Import(FUSEDSTEP_CAPSULE, 0);
    if (api && (api->version != FUSEDSTEP_API_VERSION || api->size < (int32_t)sizeof(fusedstep_api))) {
        PyErr_Format(PyExc_ImportError,
                     "fusedstep has C interface %d of %d bytes, this module was built for %d of %d bytes",
                     (int)api->version, (int)api->size, FUSEDSTEP_API_VERSION, (int)sizeof(fusedstep_api));
        return NULL;
    }
    return api;
}
#endif

#ifdef __cplusplus
}
#endif

#endif
