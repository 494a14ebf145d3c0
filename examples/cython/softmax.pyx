# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, freethreading_compatible=True
"""Softmax regression, trained for whole epochs without the GIL: the gradients in Cython, the updates by fusedstep."""

from libc.math cimport exp
from libc.stdint cimport int64_t, uint8_t
from libc.string cimport memset

from fusedstep.cython_api cimport (
    FUSEDSTEP_FLOAT32, fusedstep_api, fusedstep_error, fusedstep_import, fusedstep_item, fusedstep_settings)

cdef const fusedstep_api* fs = fusedstep_import()


cdef void gradients(
        const float[:, ::1] images, const uint8_t[::1] labels, Py_ssize_t first, Py_ssize_t end, const float[:, ::1] W,
        const float[::1] b, float[:, ::1] dW, float[::1] db, float[::1] p) noexcept nogil:
    """Those of the mean cross-entropy of the images from first to end. p has room for a number for each class."""
    cdef Py_ssize_t i, j, k, classes = b.shape[0]
    cdef float total, largest, scale = 1 / <float> (end - first)
    dW[...] = 0
    db[...] = 0
    for i in range(first, end):
        for k in range(classes):
            p[k] = b[k]
        for j in range(W.shape[0]):
            for k in range(classes):
                p[k] += images[i, j] * W[j, k]
        largest = p[0]
        for k in range(classes):
            largest = max(largest, p[k])
        total = 0
        for k in range(classes):
            p[k] = <float> exp(p[k] - largest)
            total += p[k]
        for k in range(classes):
            p[k] = (p[k] / total - (labels[i] == k)) * scale
            db[k] += p[k]
        for j in range(W.shape[0]):
            for k in range(classes):
                dW[j, k] += images[i, j] * p[k]


def batch_gradients(
        const float[:, ::1] images, const uint8_t[::1] labels, const float[:, ::1] W, const float[::1] b,
        float[:, ::1] dW, float[::1] db, float[::1] p):
    """The same for Python."""
    with nogil:
        gradients(images, labels, 0, images.shape[0], W, b, dW, db, p)


cdef fusedstep_item item(
        int64_t n, float* w, const float* g, float* m, float* v, const fusedstep_settings* settings) noexcept nogil:
    cdef fusedstep_item result
    memset(&result, 0, sizeof(result))
    result.n = n
    result.parameter, result.gradient, result.settings = w, g, settings
    result.state[0], result.state[1] = m, v
    result.parameter_type = result.gradient_type = result.state_type = FUSEDSTEP_FLOAT32
    return result


def train_epoch(
        const float[:, ::1] images, const uint8_t[::1] labels, Py_ssize_t batch, int64_t t, double lr,
        float[:, ::1] W, float[::1] b, float[:, ::1] dW, float[::1] db, float[::1] p,
        float[:, ::1] mW, float[:, ::1] vW, float[::1] mb, float[::1] vb):
    """Adam on all images, a batch at a time, in one call. t counts the updates made so far; returns the new count."""
    cdef int code
    cdef Py_ssize_t first = 0
    cdef fusedstep_settings settings
    cdef fusedstep_item items[2]
    cdef fusedstep_error error
    if batch < 1 or labels.shape[0] != images.shape[0]:
        raise ValueError(f"batch is {batch}; there are {images.shape[0]} images and {labels.shape[0]} labels")
    error.size = sizeof(error)
    code = fs.defaults("adam", &settings, sizeof(settings))
    settings.t, settings.lr = t, lr
    items[0] = item(W.shape[0] * W.shape[1], &W[0, 0], &dW[0, 0], &mW[0, 0], &vW[0, 0], &settings)
    items[1] = item(b.shape[0], &b[0], &db[0], &mb[0], &vb[0], &settings)
    with nogil:
        while code == 0 and first < images.shape[0]:
            gradients(images, labels, first, min(first + batch, images.shape[0]), W, b, dW, db, p)
            first += batch
            settings.t += 1
            code = fs.update(2, items, sizeof(fusedstep_item), NULL, &error)
    if code != 0:
        where = error.field.decode() if error.field else "the call"
        raise ValueError(f"array {error.item}, {where}: {fs.error_message(code).decode()}")
    return settings.t
