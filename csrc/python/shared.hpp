// An object from Python as a view of its memory, taken once.
#pragma once

#include <utility>
#include <vector>

#include "bindings.hpp"

namespace fusedstep {

// For error messages: the types that kernels read.
constexpr char kFloats[] = "float32, float64, float16 or bfloat16";

// What was given, or the NumPy array of its memory, and a view of it that is good as long as `owner` is kept and isn't
// resized.
class Shared {
  public:
    Shared() = default;
    Shared(const Shared&) = delete;
    Shared& operator=(const Shared&) = delete;

    py::object owner;
    View view;  // its storage is kNoStorage for elements that kernels can't read
    bool writeable;
    bool is_array;      // NumPy's; else the following are set
    bool by_dlpack;     // a tensor, read by its type's functions: it may be given other memory while it is kept
    bool ran_python;    // to find the memory
    py::object tensor;  // of PyTorch, which counts its changes; else null

    // False if the object doesn't share memory; TypeError if its memory can't be used from here.
    bool take(const Name& name, const py::object& given);

    // By the functions of its type, which take a thirtieth of the time that an array does. False for what is not plain
    // memory of the CPU, and for what has none of these functions. complex: complex numbers are taken as pairs, in a
    // last axis. is_plain: the tensor is known to stand for the bits that it has, neither negated nor conjugate.
    bool take_tensor(const py::object& given, bool complex = false, bool is_plain = false);

    void take_array(py::array array, int storage) {
        is_array = true;
        view = view_of(array, storage);
        writeable = array.writeable();
        owner = std::move(array);
    }

    // Whether what was given described memory that it made for that, as objects do that show a NumPy scalar's.
    bool is_copy() const;

    // For error messages.
    std::string dtype() const;
    std::string shape() const;

  private:
    bool take_other(const Name& name, const py::object& given);

    Extent extents_[2 * kMaxDimensions];  // of a tensor, whose strides are not in bytes
    bool lacks_memory_ = false;           // of a tensor, whose storage has been freed
};

// A new array without dimensions; TypeError for what is no number.
py::array array_of_number(const Name& name, const py::object& value);

// Raises the version counters of PyTorch's tensors, so that autograd refuses a backward pass that needs their old
// values.
void count_changes(const std::vector<py::object>& tensors);

// By NumPy, which would warn where a number is too large for the narrower type.
void copy_numbers(const py::object& from, const py::array& to);

}  // namespace fusedstep
