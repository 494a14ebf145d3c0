// The Python module.
#include <algorithm>
#include <string>
#include <vector>

#include "arrays.hpp"
#include "c_api.hpp"
#include "dispatch.hpp"
#include "float_mode.hpp"
#include "parallel.hpp"
#include "strided.hpp"
#include "table.hpp"

namespace fusedstep {

std::string Name::text() const {
    std::string result = container;
    for (const py::handle part : {key, letter})
        if (part) result += "[" + fusedstep::text(py::repr(part)) + "]";
    return result;
}

// NumPy writes '=' for the order of this machine, but keeps '<' where a buffer says so, as those of ctypes do.
static bool is_swapped(char order) {
    const int one = 1;
    const bool little = *reinterpret_cast<const char*>(&one) == 1;
    return order == (little ? '>' : '<');
}

int stored_type(const py::array& a) {
    using Numpy = py::detail::npy_api;
    constexpr int half = 23;  // which pybind11 doesn't name
    const py::dtype type = a.dtype();
    const int number = type.num(), native = number == Numpy::NPY_FLOAT_        ? int{kFloat32}
                                            : number == Numpy::NPY_DOUBLE_     ? int{kFloat64}
                                            : number == half                   ? int{kHalf}
                                            : number == Numpy::NPY_LONGDOUBLE_ ? int{kLongDouble}
                                                                               : kNotNative;
    return native != kNotNative && is_swapped(type.byteorder()) ? native + kSwapped : native;
}

int native_type(const py::array& a) {
    const int type = stored_type(a);
    return type == kFloat32 || type == kFloat64 ? type : kNotNative;
}

static bool is_aligned(const py::array& a) {
    return (a.flags() & py::detail::npy_api::NPY_ARRAY_ALIGNED_) != 0;
}

bool is_plain(const py::array& a) {
    return (a.flags() & py::array::c_style) != 0 && is_aligned(a);
}

char* address(const py::array& a) {
    return static_cast<char*>(const_cast<void*>(a.data()));
}

View view_of(const py::array& a) {
    return {address(a),
            stored_type(a),
            a.itemsize(),
            a.size(),
            is_aligned(a),
            Extents(a.shape(), a.shape() + a.ndim()),
            Extents(a.strides(), a.strides() + a.ndim())};
}

std::string text(py::handle object) {
    return py::str(object);
}

std::string type_name(py::handle object) {
    return Py_TYPE(object.ptr())->tp_name;
}

py::module_ numpy() {
    return py::module_::import("numpy");
}

void require_native(const Name& name, const py::array& a) {
    if (native_type(a) == kNotNative)
        throw py::type_error(name.text() + " has dtype " + text(a.dtype()) + ", expected float32 or float64");
}

void require_writeable(const Name& name, const py::array& a) {
    if (!a.writeable()) throw py::value_error(name.text() + " is read-only");
}

void require_distinct_elements(const Name& name, const py::array& a) {
    if (!is_plain(a) && overlaps_itself(view_of(a)))
        throw py::value_error(name.text() + " has elements that share memory: shape " + text(a.attr("shape")) +
                              ", strides " + text(a.attr("strides")));
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

py::array as_native(const Name& name, const py::object& given) {
    py::array array = shared_array(name, given);
    if (!array) refuse_unshared(name, given, "an array");
    require_native(name, array);
    return array;
}

bool same_order(const py::array& x, const py::array& other) {
    if (native_type(other) != native_type(x)) return false;
    if (is_plain(x) && is_plain(other)) return true;
    const View a = view_of(x), b = view_of(other);
    for (std::size_t d = 0; d < a.shape.size(); ++d)
        if (a.shape[d] > 1 && a.strides[d] != b.strides[d]) return false;
    return b.aligned;
}

// Whether it shares memory with an array that is read, but is not that array.
static bool lies_across(const py::array& written, std::initializer_list<const py::array*> read) {
    const Span out = span_of(view_of(written), true);
    return std::any_of(read.begin(), read.end(), [&](const py::array* other) {
        const Span in = span_of(view_of(*other), false);
        return out.meets(in) && out.low != in.low;
    });
}

Output::Output(const py::array& x, const py::object& given, std::initializer_list<const py::array*> read)
    : given_(given) {
    if (given.is_none()) {
        array_ = result_like(x);
        return;
    }
    target_ = array_ = as_native({"out"}, given);
    require_same_shape({"out"}, array_, {"x"}, x);
    require_same_type({"out"}, array_, {"x"}, x);
    require_writeable({"out"}, array_);
    if (!same_order(x, array_) || lies_across(array_, read)) array_ = result_like(x);
}

py::object Output::finish() {
    if (given_.is_none()) return array_;
    if (!array_.is(target_)) numpy().attr("copyto")(target_, array_);
    return given_;
}

}  // namespace fusedstep

PYBIND11_MODULE(_native, module, pybind11::mod_gil_not_used()) {
    namespace py = pybind11;
    using namespace pybind11::literals;
    using namespace fusedstep;

    module.attr("version") = FUSEDSTEP_VERSION;
    module.attr("compiler") = FUSEDSTEP_COMPILER;
    module.attr("c_api") = py::capsule(&c_api, FUSEDSTEP_CAPSULE);
    bind_update(module);
    bind_batch_norm(module);
    bind_dropout(module);
    bind_memory(module);
    bind_shared(module);

    module.def("isas", [] {
        py::list names;
        for (const KernelTable* usable : usable_tables()) names.append(usable->isa);
        return py::tuple(names);
    });
    module.def("isa", [] { return table().isa; });
    module.def("use_isa", &use_table, "name"_a);
    module.def("set_num_threads", &set_num_threads, "n"_a);
    module.def("get_num_threads", &num_threads);
    module.def("parallel_regions", &parallel_regions);
    module.def("set_flush_subnormals", [](bool flag) { flush_subnormals.store(flag); }, "flag"_a);
    module.def("get_flush_subnormals", [] { return flush_subnormals.load(); });
}
