/* The C interface of fusedstep: its kernels for code that holds plain pointers, callable without the GIL.
 *
 *     #include <Python.h>       before the next, which declares fusedstep_import() only then
 *     #include <fusedstep.h>    in the folder that fusedstep.get_include() names
 *
 *     const fusedstep_api *fs = fusedstep_import();    once, with the GIL; NULL with a Python exception on failure
 *
 *     fusedstep_settings adamw;
 *     fs->defaults("adamw", &adamw, sizeof adamw);
 *     adamw.lr = 3e-4;
 *
 *     fusedstep_item item = {0};                       in C++ {}; n float32 weights w, gradient g, state m and v
 *     item.n = n;
 *     item.parameter = w, item.parameter_type = FUSEDSTEP_FLOAT32;
 *     item.gradient = g, item.gradient_type = FUSEDSTEP_FLOAT32;
 *     item.state[0] = m, item.state[1] = v, item.state_type = FUSEDSTEP_FLOAT32;
 *     item.settings = &adamw;
 *
 *     int code = fs->update(1, &item, sizeof item, NULL, NULL);
 *     if (code != FUSEDSTEP_OK) puts(fs->error_message(code));
 *     adamw.t += 1;
 *
 * What holds for all functions:
 *   - An array is contiguous, aligned to its elements, and as long as the sizes say. Its pointer may be NULL if it has
 *     no elements.
 *   - The result is FUSEDSTEP_OK or another of the codes below. All arguments are checked before the first write: after
 *     an error no array has changed.
 *   - Structs grow at their end. Their size travels with them, so that code that was built with an older or a newer
 *     header than the library's works: fields that the caller's header lacks have their defaults, and fields that the
 *     library lacks must be zero bytes. Zero a struct before filling it.
 *   - The bits are those of the Python interface. Calls from several threads at once are allowed. The threads, the
 *     instruction set and the flushing of subnormal numbers are those that Python has set (set_num_threads, use_isa,
 *     set_flush_subnormals). Only fusedstep_import() needs Python.
 */
#ifndef FUSEDSTEP_H
#define FUSEDSTEP_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Within a version, functions and fields keep their meaning; new ones come at the end of the table or struct. */
#define FUSEDSTEP_API_VERSION 2
#define FUSEDSTEP_CAPSULE "fusedstep._native.c_api"

#define FUSEDSTEP_MAX_STATES 6  /* state arrays of a rule */
#define FUSEDSTEP_MAX_SCALARS 2 /* numbers that a rule keeps for each parameter */

enum {
    FUSEDSTEP_OK = 0,
    FUSEDSTEP_NULL_POINTER = 1,
    FUSEDSTEP_BAD_SIZE = 2,       /* negative, or past the end of the address space; or channels without elements */
    FUSEDSTEP_MISALIGNED = 3,     /* a pointer is not a multiple of its element's size */
    FUSEDSTEP_OVERLAP = 4,        /* a written array shares memory with another of its item, or of its call; a gradient
                                     that becomes zero, with what any item writes */
    FUSEDSTEP_OUT_OF_RANGE = 5,   /* a hyper-parameter, a coefficient that follows from several, t, an index */
    FUSEDSTEP_UNKNOWN_RULE = 6,
    FUSEDSTEP_UNKNOWN_HYPERPARAMETER = 7, /* the rule has none of that name, or it is given twice */
    FUSEDSTEP_UNKNOWN_TYPE = 8,           /* not one of the storage types; 0, a type that was never set, is none */
    FUSEDSTEP_UNSUPPORTED_TYPE = 9,       /* a storage type, but not for this array */
    FUSEDSTEP_BAD_STRUCT = 10,            /* the size of a struct, or bytes beyond what the library knows of it */
    FUSEDSTEP_OUT_OF_MEMORY = 11,
    FUSEDSTEP_INTERNAL_ERROR = 12
};

/* How the elements of an array are stored. */
enum {
    FUSEDSTEP_FLOAT32 = 1,
    FUSEDSTEP_FLOAT64 = 2,
    FUSEDSTEP_FLOAT16 = 3, /* IEEE 754 binary16 */
    FUSEDSTEP_BFLOAT16 = 4 /* the upper half of a float32 */
};

/* Where an error is. Optional: functions that take one accept NULL. Written by every call, one without error too. */
typedef struct fusedstep_error {
    size_t size;       /* sizeof(fusedstep_error), set by the caller */
    int64_t item;      /* index of the item of an update; -1 if the error is in no item */
    const char *field; /* the field or hyper-parameter, as "gradient", "state[1]" or "beta2", which lives as long as the
                          process; NULL if the error is in no single one */
} fusedstep_error;

/* A rule, as describe_rule tells it. Strings live as long as the process. */
typedef struct fusedstep_rule {
    const char *name;                         /* "adam" */
    const char *states[FUSEDSTEP_MAX_STATES]; /* names in the order of fusedstep_item.state; NULL from state_count on */
    int32_t state_count;                      /* 0 to FUSEDSTEP_MAX_STATES */
    int32_t hyperparameter_count;             /* those that every rule has included */
    const char *starts[FUSEDSTEP_MAX_STATES]; /* what elements of a state are before the first step: the value of this
                                                 hyper-parameter; the parameter, if it is "parameter"; 0, if NULL */
    const char *scalars[FUSEDSTEP_MAX_SCALARS];  /* names in the order of fusedstep_item.scalars */
    double scalar_starts[FUSEDSTEP_MAX_SCALARS]; /* what they are before the first step */
    int64_t scalar_count;
    const char *shapes[FUSEDSTEP_MAX_STATES]; /* "rows" or "columns" for states with a number for each row or column of the
                                                 parameter's matrices in place of one for each element; else NULL */
} fusedstep_rule;

/* A hyper-parameter of a rule, as describe_hyperparameter tells it. Its limits are inclusive. One with a minimum of -1
 * may be off: its values are -1, which means off, and those from 0 to maximum. */
typedef struct fusedstep_hyperparameter {
    const char *name;
    double default_value, minimum, maximum;
    int32_t is_flag;   /* 1: only 0 and 1 are values */
    int32_t is_option; /* 1: given in fusedstep_settings.options; 0: a field of fusedstep_settings */
} fusedstep_hyperparameter;

/* The value of a hyper-parameter. */
typedef struct fusedstep_option {
    const char *name; /* as "beta1" */
    double value;
} fusedstep_option;

/* A rule with its hyper-parameters, shared by any number of items. To be filled by `defaults`, then changed. */
typedef struct fusedstep_settings {
    size_t size;         /* sizeof(fusedstep_settings) */
    const char *rule;    /* one of those that describe_rule lists */
    int64_t t;           /* number of the step for these items, from 1 */
    double lr;           /* learning rate: finite, not negative */
    double weight_decay; /* finite, not negative; 0: none */
    double decoupled;    /* 0: weight_decay w is added to the gradient (L2)
                            1: w is multiplied by 1 - lr weight_decay before the rule (AdamW) */
    double scale;        /* factor of the gradient before all else, as 1 / loss scale: finite, not negative */
    const fusedstep_option *options; /* the other hyper-parameters in any order; defaults for those left out. The rule's
                                        own, and for every rule:
                                        maximize: 1: the gradient is negated
                                        clip_value: elements of the gradient beyond +- clip_value become +- clip_value,
                                        after the norm was clipped, before weight decay; -1: off
                                        average: decay of a running mean of the parameter, up to 1, in item.average;
                                        0: it becomes the new parameter, for the first step; -1: off
                                        cautious_decay: 1: decoupled decay comes after the rule, only where that has not
                                        moved the parameter away from 0
                                        max_lr: decoupled decay is multiplied by lr / max_lr; -1: it isn't
                                        decay_after: 1: lr weight_decay w is subtracted after the rule */
    int64_t option_count;            /* 0: options may be NULL */
    int64_t stochastic; /* 1: parameters narrower than arithmetic are rounded up or down at random, so that the mean of
                           the result is the number before; 0: to nearest even, as copies always are */
    uint64_t seed;      /* any; for the rounding of bfloat16 state too. An element's random bits are a function of seed,
                           t, the item's index and the element's number, that of fusedstep.step. */
} fusedstep_settings;

/* One array of a step. Arithmetic is in float64 for float64 parameters, and in float32 for all other storage types. */
typedef struct fusedstep_item {
    int64_t n;            /* elements of each of its arrays */
    void *parameter;      /* updated in place; rounded where it is stored narrower than arithmetic */
    const void *gradient; /* not written, unless zero_gradient is 1; copied first if it overlaps arrays of its item */
    const fusedstep_settings *settings;
    void *state[FUSEDSTEP_MAX_STATES]; /* updated in place: an array for each of the rule's states, in the rule's order
                                          (adam: m, v); as fusedstep_rule.starts says before the first step, which for
                                          most is 0. Further entries are ignored. */
    int32_t parameter_type;            /* any storage type */
    int32_t gradient_type;             /* any storage type */
    int32_t state_type;                /* FUSEDSTEP_FLOAT64 beside a float64 parameter, else FUSEDSTEP_FLOAT32 or
                                          FUSEDSTEP_BFLOAT16, which is always rounded stochastically; ignored if the
                                          rule has no states */
    int32_t copy_type;                 /* any storage type; ignored if copy is NULL */
    void *copy;                        /* where the new parameter is written besides, rounded to nearest even: for the
                                          device, or for the next forward pass; NULL: nowhere. Master weights: parameter
                                          is the float32 master, copy the narrow parameter. */
    void *average;                     /* the running mean of the parameter before it is rounded, in the arithmetic's
                                          type, if the option average is on; else ignored */
    int64_t zero_gradient;             /* 1: gradient, which must be writable memory then, is left zero, also by a step
                                          that is skipped; it may share memory with other gradients only */
    int64_t row_size;                  /* 0: gradient has n elements. Else the parameter is a matrix whose rows have
                                          row_size elements; only some rows have a gradient and are updated, the others
                                          keep their values in all arrays, average and copy too */
    const int64_t *rows;               /* the numbers of these rows, ascending, each once; gradient has row_count
                                          row_size elements, these rows one after the other */
    int64_t row_count;
    double *scalars; /* updated in place, unless the step is skipped: the rule's numbers for this parameter, in the rule's
                        order; ignored if it has none */
    int64_t matrix_rows; /* ignored unless the rule has states for rows and columns: the size of the matrices of which
                            n elements are one or more, row-major, one after the other. Then the states have
                            n / matrix_columns and n / matrix_rows elements. Both 0: the parameter is one row, its columns
                            have n elements, and the state for rows is ignored. Such rules need a row_size of 0. */
    int64_t matrix_columns;
} fusedstep_item;

/* The gradients of all items of an update together, as they are after scale and maximize. Zero bytes: nothing is asked
 * of them. Their norm is the square root of the sum of all squares. */
typedef struct fusedstep_gradients {
    size_t size;            /* sizeof(fusedstep_gradients) */
    int32_t clips;          /* 1: all are multiplied by clip_norm / (norm + 1e-6), unless that is 1 or more */
    int32_t skip_nonfinite; /* 1: if an element is infinite or NaN, nothing is written but zeros for zero_gradient */
    int32_t norm_is_known;  /* 1: gradient_norm is given, and nothing is measured; skip_nonfinite looks at it alone */
    int32_t skipped;        /* written: 1 if the step was skipped, else 0 */
    double clip_norm;       /* finite, not negative; ignored unless clips is 1 */
    double gradient_norm;   /* not negative if it is given; written if it is measured: clips or skip_nonfinite is 1, and
                               norm_is_known 0 */
} fusedstep_gradients;

/* Batch normalisation of x[outer][channels][inner]: (N, C) has inner 1; (N, C, H, W) has inner H W; channels last has
 * outer N H W and inner 1. All three are 0 or more. x, y, dout, dx, gamma, beta, dgamma and dbeta are of one type,
 * float32 or float64; mean, var and inv_std are float64. All but x, y, dout and dx have one number per channel. */

/* y = gamma (x - mean) inv_std + beta with the statistics of x. */
typedef struct fusedstep_batch_norm_training {
    size_t size;  /* sizeof(fusedstep_batch_norm_training) */
    int64_t type; /* FUSEDSTEP_FLOAT32 or FUSEDSTEP_FLOAT64 */
    int64_t outer, channels, inner; /* outer inner > 0, unless channels is 0 */
    const void *x;
    void *y; /* may be x */
    const void *gamma, *beta;
    double eps;      /* finite, not negative */
    double *mean;    /* written */
    double *var;     /* written; biased: the mean of squares */
    double *inv_std; /* written; 1 / sqrt(var + eps) */
} fusedstep_batch_norm_training;

/* y = gamma (x - mean) / sqrt(var + eps) + beta with statistics that are given. */
typedef struct fusedstep_batch_norm_inference {
    size_t size;  /* sizeof(fusedstep_batch_norm_inference) */
    int64_t type; /* FUSEDSTEP_FLOAT32 or FUSEDSTEP_FLOAT64 */
    int64_t outer, channels, inner;
    const void *x;
    void *y; /* may be x */
    const void *gamma, *beta;
    double eps; /* finite, not negative */
    const double *mean, *var;
} fusedstep_batch_norm_inference;

/* The gradients for x, gamma and beta, from that for y and what training wrote. */
typedef struct fusedstep_batch_norm_backward {
    size_t size;  /* sizeof(fusedstep_batch_norm_backward) */
    int64_t type; /* FUSEDSTEP_FLOAT32 or FUSEDSTEP_FLOAT64 */
    int64_t outer, channels, inner; /* outer inner > 0, unless channels is 0 */
    const void *x, *dout;
    void *dx; /* may be x or dout */
    const void *gamma;
    const double *mean, *inv_std;
    void *dgamma, *dbeta; /* written */
} fusedstep_batch_norm_backward;

/* y[i] = x[i] / (1 - rate) if element i is kept, else 0. The mask is a function of rate, seed, call and i, that of
 * fusedstep.dropout; the gradient is the same call on dout. */
typedef struct fusedstep_dropout {
    size_t size;  /* sizeof(fusedstep_dropout) */
    int64_t type; /* FUSEDSTEP_FLOAT32 or FUSEDSTEP_FLOAT64 */
    int64_t n;    /* elements of x and y */
    const void *x;
    void *y;             /* may be x */
    double rate;         /* part to drop, from 0 to below 1 */
    uint64_t seed, call; /* any */
} fusedstep_dropout;

typedef struct fusedstep_api {
    int32_t version; /* FUSEDSTEP_API_VERSION of the library */
    int32_t size;    /* of this table in bytes */

    /* For every code, those of later versions too. Lives as long as the process. */
    const char *(*error_message)(int code);

    int (*get_num_threads)(void);
    int (*set_num_threads)(int threads); /* 1 to 1024, the caller included */

    /* Rules have the indices 0 to rule_count() - 1, a rule's hyper-parameters 0 to its hyperparameter_count - 1. size
     * is that of the struct to fill. */
    int32_t (*rule_count)(void);
    int (*describe_rule)(int32_t index, fusedstep_rule *rule, size_t size);
    int (*describe_hyperparameter)(const char *rule, int32_t index, fusedstep_hyperparameter *result, size_t size);

    /* Fills settings with the rule's defaults, t = 1 and no options. size is sizeof(fusedstep_settings). */
    int (*defaults)(const char *rule, fusedstep_settings *settings, size_t size);

    /* One step of all items in one parallel region, whatever their rules, settings and types; in two if the norm of the
     * gradients is measured. item_size is sizeof(fusedstep_item). Items that share memory are updated one after the
     * other, in their order. gradients may be NULL, and is not written after an error. */
    int (*update)(int64_t count, const fusedstep_item *items, size_t item_size, fusedstep_gradients *gradients,
                  fusedstep_error *error);

    /* parameter += scale gradient for all items, without their settings, state and average, which are ignored: sums of
     * the gradients of several batches. scale: finite, not negative. norm, which may be NULL, becomes that of all sums;
     * an item whose gradient is NULL is only measured for it. */
    int (*accumulate)(int64_t count, const fusedstep_item *items, size_t item_size, double scale, double *norm,
                      fusedstep_error *error);

    /* The norm of all gradients as they are. Of items, nothing but the gradient's fields and those of rows is used. */
    int (*gradient_norm)(int64_t count, const fusedstep_item *items, size_t item_size, double *norm,
                         fusedstep_error *error);

    int (*batch_norm_training)(const fusedstep_batch_norm_training *call, fusedstep_error *error);
    int (*batch_norm_inference)(const fusedstep_batch_norm_inference *call, fusedstep_error *error);
    int (*batch_norm_backward)(const fusedstep_batch_norm_backward *call, fusedstep_error *error);
    int (*dropout)(const fusedstep_dropout *call, fusedstep_error *error);
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
