#include "bindings.hpp"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstring>
#include <thread>

namespace fusedstep {

WithoutGil::~WithoutGil() {
    try {
        PyEval_RestoreThread(state_);
    } catch (...) {
        for (;;) std::this_thread::sleep_for(std::chrono::hours(1));
    }
}

std::string Name::text() const {
    std::string result = container;
    const auto add = [&](py::handle part) { result += "[" + fusedstep::text(py::repr(part)) + "]"; };
    if (is_path)
        for (const py::handle part : key) add(part);
    else if (key)
        add(key);
    if (letter) add(letter);
    return result;
}

// NumPy writes '=' for the order of this machine, but keeps '<' where a buffer says so, as those of ctypes do.
static bool is_swapped(char order) {
    const int one = 1;
    const bool little = *reinterpret_cast<const char*>(&one) == 1;
    return order == (little ? '>' : '<');
}

// Whether a type that NumPy has been taught is the bfloat16 of ml_dtypes, which need not be imported for that.
static bool is_bfloat16(const py::dtype& type) {
    static std::atomic<int> known{-1};  // its number
    const int number = type.num();
    if (number == known.load(std::memory_order_relaxed)) return true;
    const py::object scalar = type.attr("type");
    if (type.itemsize() != 2 || text(scalar.attr("__name__")) != "bfloat16" ||
        text(scalar.attr("__module__")).rfind("ml_dtypes", 0) != 0)
        return false;
    known.store(number, std::memory_order_relaxed);
    return true;
}

int storage_of(const py::array& a) {
    using Numpy = py::detail::npy_api;
    constexpr int kHalf = 23, kFirstUserType = 256;  // which pybind11 doesn't name
    const auto* const type = py::detail::array_descriptor_proxy(py::detail::array_proxy(a.ptr())->descr);
    const int number = type->type_num;
    if (number >= kFirstUserType) return is_bfloat16(a.dtype()) ? int{kBFloat16} : kNoStorage;
    const int storage = number == Numpy::NPY_FLOAT_    ? int{kFloat32}
                        : number == Numpy::NPY_DOUBLE_ ? int{kFloat64}
                        : number == kHalf              ? int{kFloat16}
                                                       : kNoStorage;
    return storage != kNoStorage && is_swapped(type->byteorder) ? kNoStorage : storage;
}

int native_type(const py::array& a) {
    const int storage = storage_of(a);
    return storage == kFloat32 || storage == kFloat64 ? storage : kNoStorage;
}

static bool is_aligned(const py::array& a) {
    return (a.flags() & py::detail::npy_api::NPY_ARRAY_ALIGNED_) != 0;
}

bool is_c_contiguous(const py::array& a) {
    return (a.flags() & py::array::c_style) != 0 && is_aligned(a);
}

char* address(const py::array& a) {
    return static_cast<char*>(const_cast<void*>(a.data()));
}

std::string text(py::handle object) {
    return py::str(object);
}

std::string text_of(const Extent* extents, int count) {
    py::tuple all(count);
    for (int i = 0; i < count; ++i) all[i] = extents[i];
    return text(all);
}

std::string type_name(py::handle object) {
    return Py_TYPE(object.ptr())->tp_name;
}

py::module_ numpy() {
    return py::module_::import("numpy");
}

void require_native(const Name& name, const py::array& a) {
    if (native_type(a) == kNoStorage)
        throw py::type_error(name.text() + " has dtype " + text(a.dtype()) + ", expected float32 or float64");
}

void require_writeable(const Name& name, const py::array& a) {
    if (!a.writeable()) throw py::value_error(name.text() + " is read-only");
}

void require_distinct_elements(const Name& name, const View& view) {
    if (!is_contiguous(view) && overlaps_itself(view))
        throw py::value_error(name.text() + " has elements that share memory: shape " +
                              text_of(view.shape, view.dimensions) + ", strides " +
                              text_of(view.strides, view.dimensions));
}

void require_same_shape(const Name& name, const py::array& a, const Name& other_name, const py::array& other) {
    if (a.ndim() != other.ndim() || !std::equal(a.shape(), a.shape() + a.ndim(), other.shape()))
        throw py::value_error(name.text() + " has shape " + text(a.attr("shape")) + ", " + other_name.text() + " has " +
                              text(other.attr("shape")));
}

void require_same_type(const Name& name, const py::array& a, const Name& other_name, const py::array& other) {
    if (native_type(a) != native_type(other))
        throw py::value_error(name.text() + " has dtype " + text(a.dtype()) + ", " + other_name.text() + " has " +
                              text(other.dtype()));
}

py::array array_of_layer(const Name& name, const py::object& given) {
    if (!py::isinstance<py::array>(given) && needs_gradient(given))
        throw std::runtime_error(name.text() +
                                 " requires a gradient, which autograd would lose here; expected it detached");
    return shared_array(name, given);
}

py::array as_native(const Name& name, const py::object& given) {
    py::array array = array_of_layer(name, given);
    if (!array) refuse_unshared(name, given, "an array");
    require_native(name, array);
    return array;
}

py::array array_of_numbers(const Name& name, const py::object& given) {
    const auto refuse = [&] {
        const py::object shown = py::module_::import("fusedstep._limits").attr("shown")(given);
        throw py::type_error(name.text() + " is " + text(shown) + ", expected one number for each channel");
    };
    py::array array = no_array();
    try {
        array = numpy().attr("asarray")(given);
    } catch (py::error_already_set& error) {
        if (!error.matches(PyExc_Exception)) throw;
        refuse();
    }
    if (array.ndim() == 0 && std::strchr("fiu", array.dtype().kind()) == nullptr) refuse();
    return array;
}

bool same_order(const py::array& x, const py::array& other) {
    if (native_type(other) != native_type(x)) return false;
    if (is_c_contiguous(x) && is_c_contiguous(other)) return true;
    const View a = view_of(x), b = view_of(other);
    for (int d = 0; d < a.dimensions; ++d)
        if (a.shape[d] > 1 && a.strides[d] != b.strides[d]) return false;
    return is_aligned(b);
}

// Whether it overlaps an array that is read, but is not that array.
static bool overlaps_another(const py::array& written, std::initializer_list<const py::array*> read) {
    const Span out = span_of(view_of(written), true);
    return std::any_of(read.begin(), read.end(), [&](const py::array* other) {
        const Span in = span_of(view_of(*other), false);
        return out.overlaps(in) && out.low != in.low;
    });
}

py::array array_of_out(const py::object& given, const py::array& x) {
    py::array out = as_native({"out"}, given);
    require_same_shape({"out"}, out, {"x"}, x);
    require_same_type({"out"}, out, {"x"}, x);
    require_writeable({"out"}, out);
    require_distinct_elements({"out"}, view_of(out));
    return out;
}

Output::Output(const py::array& x, const py::object& given, std::initializer_list<const py::array*> read)
    : given_(given) {
    if (given.is_none()) {
        array_ = result_like(x);
        return;
    }
    target_ = array_ = array_of_out(given, x);
    if (!same_order(x, array_) || overlaps_another(array_, read)) array_ = result_like(x);
}

py::object Output::finish() {
    if (given_.is_none()) return array_;
    if (!array_.is(target_)) numpy().attr("copyto")(target_, array_);
    return given_;
}

}  // namespace fusedstep
