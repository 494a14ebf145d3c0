// What the bindings share: names and texts for errors, NumPy arrays and what can be wrong with them.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <initializer_list>
#include <string>

#include "arrays.hpp"

namespace fusedstep {

namespace py = pybind11;

// The GIL released. Where the interpreter ends before the GIL is had again, CPython before 3.14 ends the thread by an
// exception that no destructor may let through; the thread sleeps for good instead, as CPython 3.14 has it.
class WithoutGil {
  public:
    WithoutGil() : state_(PyEval_SaveThread()) {}
    ~WithoutGil();
    WithoutGil(const WithoutGil&) = delete;
    WithoutGil& operator=(const WithoutGil&) = delete;

  private:
    PyThreadState* const state_;
};

// Adds the functions of one part of the library to the module.
void bind_update(py::module_& module);
void bind_tensor_groups(py::module_& module);
void bind_batch_norm(py::module_& module);
void bind_dropout(py::module_& module);
void bind_memory(py::module_& module);
void bind_shared(py::module_& module);
void bind_sums(py::module_& module);

// How an error names an array: params['W1'], params['conv']['W'], state['W1']['m'], x. Put together only when an error
// is raised.
struct Name {
    const char* container = nullptr;
    py::handle key = {}, letter = {};
    bool is_path = false;  // the key: a tuple with the key of each level

    std::string text() const;
};

// How the elements are stored, or kNoStorage.
int storage_of(const py::array& a);

// The same for what batch normalisation and dropout take: kFloat32, kFloat64 or kNoStorage.
int native_type(const py::array& a);

// Row-major, without gaps, aligned.
bool is_c_contiguous(const py::array& a);

char* address(const py::array& a);

inline View view_of(const py::array& a, int storage) {
    const bool contiguous = (a.flags() & py::array::c_style) != 0;
    return {address(a), storage, static_cast<int>(a.ndim()), a.shape(), a.strides(), contiguous};
}

inline View view_of(const py::array& a) {
    return view_of(a, storage_of(a));
}

std::string text(py::handle object);
std::string text_of(const Extent* extents, int count);  // as a tuple
std::string type_name(py::handle object);
py::module_ numpy();

// Zeros with the shape of a parameter and its order in memory, for its state of that number.
py::array zeros_beside(const View& parameter, int storage, int state);

py::array zeros(const Extents& shape, int storage);
py::array uninitialized(const Extents& shape, int storage);

// A copy for the state of that number, beside a parameter that begins at a page, as nearly all large arrays do.
py::array copy_apart(const py::array& array, int state);

// An uninitialised array with its elements where x has them, which has no gaps.
py::array result_like(const py::array& x);

void require_native(const Name& name, const py::array& a);
void require_writeable(const Name& name, const py::array& a);
void require_distinct_elements(const Name& name, const View& view);  // of an array that is written
void require_same_shape(const Name& name, const py::array& a, const Name& other_name, const py::array& other);
void require_same_type(const Name& name, const py::array& a, const Name& other_name, const py::array& other);

// Null. Not py::array(), which makes an empty array.
inline py::array no_array() {
    return py::reinterpret_steal<py::array>(py::handle());
}

// The array that an object is, or one of the memory that it shares, never of a copy; null if it shares none. TypeError
// if its memory can't be used from here: a GPU's, or of a type that NumPy lacks.
py::array shared_array(const Name& name, const py::object& given);

// Whether it is a tensor of PyTorch through which gradients are to flow.
bool needs_gradient(const py::object& given);

// The same for what layers and functions get: RuntimeError for a tensor that needs a gradient, as by Tensor.numpy().
py::array array_of_layer(const Name& name, const py::object& given);

// TypeError for an object that is neither an array nor shares its memory.
[[noreturn]] void refuse_unshared(const Name& name, const py::object& given, const char* expected);

// The same as array_of_layer; an error if it is something else or of another type than float32 and float64.
py::array as_native(const Name& name, const py::object& given);

// The array that NumPy makes of a sequence of numbers; TypeError if it makes none, or one without dimensions of
// something else.
py::array array_of_numbers(const Name& name, const py::object& given);

// Whether an array has the type of x, and its elements where x, of the same shape, has them.
bool same_order(const py::array& x, const py::array& other);

// The array of `out` for a result of the shape and type of x; an error if it can't be written, or has elements that
// share memory.
py::array array_of_out(const py::object& given, const py::array& x);

// Where a result is made: in the array the caller gave if it has its elements in the order of x, which has no gaps, and
// overlaps nothing that is read; else in a new one, which is then copied there.
class Output {
  public:
    Output(const py::array& x, const py::object& given, std::initializer_list<const py::array*> read);

    template <class T> T* data() { return reinterpret_cast<T*>(address(array_)); }

    // The array that the caller gave, or null.
    const py::array& target() const { return target_; }

    py::object finish();

  private:
    py::object given_;
    py::array target_ = no_array(), array_ = no_array();  // of the memory that was given, and where the result is made
};

}  // namespace fusedstep
