// The part of DLPack's C exchange interface (version 1.3) that reads a tensor where it is, without a Python object.
#pragma once

#include <Python.h>

#include <cstdint>

namespace fusedstep {

struct DlpackTensor {
    void* data;
    std::int32_t device, device_id;
    std::int32_t dimensions;
    std::uint8_t type_code, type_bits;
    std::uint16_t type_lanes;
    std::int64_t *shape, *strides;  // strides in elements; null if row-major without gaps
    std::uint64_t byte_offset;
};

struct DlpackExchange {
    std::uint32_t major, minor;
    const DlpackExchange* previous;  // of an older major version
    void (*not_used_here[3])();
    int (*view)(void* object, DlpackTensor* tensor);  // borrowed from the object; -1 with a Python error
};

enum { kDlpackCpu = 1, kDlpackCudaHost = 3, kDlpackRocmHost = 11, kDlpackCudaManaged = 13 };
enum { kDlpackFloat = 2, kDlpackBFloat = 4, kDlpackComplex = 5 };

// Whether the CPU can read and write memory on such a device.
constexpr bool is_near(std::int64_t device) {
    return device == kDlpackCpu || device == kDlpackCudaHost || device == kDlpackRocmHost ||
           device == kDlpackCudaManaged;
}

// A type that offers the interface.
struct DlpackType {
    PyTypeObject* type;
    const DlpackExchange* exchange;
    PyObject *is_neg, *is_conj;  // its methods of these names, or null
    bool is_torch;               // PyTorch's
    const DlpackType* next;
};

// That of an object, or null; the first also, until the second has been called, for types that have one.
const DlpackType* known_dlpack_type(PyObject* object);
const DlpackType* dlpack_type(PyObject* object);

}  // namespace fusedstep
