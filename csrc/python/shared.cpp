// Objects that are not NumPy arrays but share their memory: PyTorch's tensors, buffers, __array_interface__, DLPack.
#include "shared.hpp"

#include <algorithm>
#include <atomic>
#include <string>
#include <utility>

#include "dlpack_exchange.hpp"
#include "float_mode.hpp"

namespace fusedstep {
namespace {

const char* const kElsewhere = ", expected memory of the CPU";

// With the module, unlike type_name: several libraries have a Tensor or an Array.
std::string full_type_name(const py::object& object) {
    const py::handle type = py::type::handle_of(object);
    const std::string module = text(type.attr("__module__")), name = text(type.attr("__qualname__"));
    return module == "builtins" ? name : module + "." + name;
}

std::string is_a(const Name& name, const py::object& given) {
    return name.text() + " is a " + full_type_name(given);
}

// Makes the error on the way the cause of a TypeError that names the argument.
[[noreturn]] void refuse(py::error_already_set& error, const Name& name, const py::object& given) {
    if (!error.matches(PyExc_Exception) || error.matches(PyExc_MemoryError)) throw error;
    std::string message = is_a(name, given);
    if (py::hasattr(given, "dtype")) message += " of dtype " + text(given.attr("dtype"));
    message += " whose memory can't be shared: " + text(error.value());
    py::raise_from(error, PyExc_TypeError, message.c_str());
    throw py::error_already_set();
}

// The attribute, or a null object. Other errors than that it is missing go on, unlike those in py::hasattr.
py::object attribute(const py::object& given, const char* name) {
    const auto value = py::reinterpret_steal<py::object>(PyObject_GetAttrString(given.ptr(), name));
    if (value) return value;
    if (!PyErr_ExceptionMatches(PyExc_AttributeError)) throw py::error_already_set();
    PyErr_Clear();
    return value;
}

bool is_tensor(const py::object& given) {
    const py::object modules = py::module_::import("sys").attr("modules");
    const py::object tensor = attribute(modules.attr("get")("torch"), "Tensor");
    return tensor && PyType_Check(tensor.ptr()) && py::isinstance(given, tensor);
}

// What says where the memory of an object is, or null. NumPy would copy the number that an object without that can be.
py::object interface_of(const py::object& given) {
    py::object interface = attribute(given, "__array_interface__");
    if (!interface || !py::isinstance<py::dict>(interface)) return interface;
    const auto parts = py::reinterpret_borrow<py::dict>(interface);
    const bool has_memory = parts.contains("data") && !parts["data"].is_none();
    return has_memory ? interface : py::object();
}

// The array keeps the interface too, which may be all that keeps the memory. A NumPy scalar's is of a copy, which it
// keeps under __ref.
py::array of_interface(const py::object& given, const py::object& interface) {
    const py::object simple_namespace = py::module_::import("types").attr("SimpleNamespace");
    const py::object holder = simple_namespace(py::arg("__array_interface__") = interface, py::arg("owner") = given);
    py::array array = numpy().attr("array")(holder, py::arg("copy") = false);
    if (py::isinstance<py::dict>(interface) && interface.contains("__ref"))
        array.attr("setflags")(py::arg("write") = false);
    return array;
}

// Not by DLPack, which refuses tensors that require a gradient, and is read-only for older versions of either side.
py::array of_tensor(const Name& name, const py::object& given) {
    const py::object device = given.attr("device");
    if (text(device.attr("type")) != "cpu")
        throw py::type_error(is_a(name, given) + " on device " + text(device) + kElsewhere);
    return given.attr("detach")().attr("numpy")();
}

// Whether a tensor stores its elements with the other sign, like the imaginary part of a conjugate, or a conjugate's
// with that of the original. DLPack doesn't tell.
bool is_true_of(const py::object& given, PyObject* method) {
    const auto answer = py::reinterpret_steal<py::object>(PyObject_CallOneArg(method, given.ptr()));
    if (!answer) PyErr_Clear();
    return answer && answer.ptr() == Py_True;
}

// From a memoryview, which has no other protocol that NumPy could fall back on.
py::array of_buffer(const py::object& given) {
    const auto view = py::reinterpret_steal<py::object>(PyMemoryView_FromObject(given.ptr()));
    if (!view) throw py::error_already_set();
    return numpy().attr("array")(view, py::arg("copy") = false);
}

[[noreturn]] void refuse_device(const Name& name, const py::object& given, std::int64_t kind,
                                const std::string& number) {
    constexpr std::pair<int, const char*> names[] = {{2, "cuda"},  {4, "opencl"},  {7, "vulkan"}, {8, "metal"},
                                                     {10, "rocm"}, {14, "oneapi"}, {15, "webgpu"}};
    std::string kind_name = "DLPack type " + std::to_string(kind);
    for (const auto& [known_kind, known] : names)
        if (kind == known_kind) kind_name = known;
    throw py::type_error(is_a(name, given) + " on device " + kind_name + ":" + number + kElsewhere);
}

void require_memory_of_the_cpu(const Name& name, const py::object& given) {
    const py::tuple device = given.attr("__dlpack_device__")();
    const long kind = PyLong_AsLong(py::int_(device[0]).ptr());
    if (PyErr_Occurred()) throw py::error_already_set();
    if (!is_near(kind)) refuse_device(name, given, kind, text(py::str(device[1])));
}

py::array of_dlpack(const Name& name, const py::object& given) {
    require_memory_of_the_cpu(name, given);
    const py::object from_dlpack = numpy().attr("from_dlpack");
    try {
        return from_dlpack(given, py::arg("copy") = false);
    } catch (py::error_already_set& error) {
        if (!error.matches(PyExc_TypeError)) throw;  // otherwise NumPy or the exporter may be older than that argument
    }
    py::array array = from_dlpack(given);
    array.attr("setflags")(py::arg("write") = false);  // it might be a copy
    return array;
}

}  // namespace

static bool is_plain(const py::object& array) {
    return Py_TYPE(array.ptr()) == py::detail::npy_api::get().PyArray_Type_;
}

// What is behind the mask would be counted, or updated.
static void require_no_mask(const Name& name, const py::array& array) {
    const py::object masked = py::module_::import("numpy.ma").attr("MaskedArray");
    if (py::isinstance(array, masked))
        throw py::type_error(name.text() + " is a masked array, whose mask would be ignored; expected a plain array");
}

py::array shared_array(const Name& name, const py::object& given) {
    if (py::isinstance<py::array>(given)) {
        if (!is_plain(given)) require_no_mask(name, py::reinterpret_borrow<py::array>(given));
        return given;
    }
    const bool number = py::isinstance<py::float_>(given) || py::isinstance<py::int_>(given) ||
                        py::isinstance(given, numpy().attr("generic"));  // which has a buffer, but of a copy
    if (number) return no_array();
    try {
        if (is_tensor(given)) return of_tensor(name, given);
        const py::object interface = interface_of(given);
        const bool dlpack = static_cast<bool>(attribute(given, "__dlpack__"));
        if (PyObject_CheckBuffer(given.ptr())) {
            try {
                return of_buffer(given);
            } catch (py::error_already_set& error) {
                if (!interface && !dlpack) throw;  // a JAX array of a GPU has no buffer to give
            }
        }
        if (interface) return of_interface(given, interface);
        if (dlpack) return of_dlpack(name, given);
    } catch (py::error_already_set& error) {
        refuse(error, name, given);
    }
    if (py::hasattr(given, "__cuda_array_interface__"))
        throw py::type_error(is_a(name, given) + " on device cuda" + kElsewhere);
    return no_array();
}

bool needs_gradient(const py::object& given) {
    return is_tensor(given) && py::cast<bool>(given.attr("requires_grad"));
}

bool Shared::take(const Name& name, const py::object& given) {
    const bool is_tensor = !is_plain(given) && known_dlpack_type(given.ptr());
    if (is_tensor || !py::isinstance<py::array>(given)) return take_other(name, given);
    auto array = py::reinterpret_borrow<py::array>(given);
    if (!is_plain(given)) require_no_mask(name, array);
    const int storage = storage_of(array);
    take_array(std::move(array), storage);
    return true;
}

bool Shared::take_other(const Name& name, const py::object& given) {
    if (take_tensor(given)) return true;
    if (lacks_memory_) throw py::value_error(name.text() + " has no memory");  // NumPy would make some
    const bool torch = is_tensor(given);
    if (torch && text(given.attr("dtype")) == "torch.bfloat16") {  // of a version without that interface
        const py::object bits = py::module_::import("torch").attr("int16");
        take_array(of_tensor(name, given.attr("detach")().attr("view")(bits)), kBFloat16);
    } else {
        py::array array = shared_array(name, given);
        if (!array) return false;
        const int storage = storage_of(array);
        take_array(std::move(array), storage);
    }
    is_array = by_dlpack = false;
    ran_python = true;
    tensor = torch ? given : py::object();
    return true;
}

bool Shared::is_copy() const {
    const py::object interface = py::getattr(py::getattr(owner, "base", py::none()), "__array_interface__", py::none());
    return py::isinstance<py::dict>(interface) && interface.contains("__ref");
}

bool Shared::take_tensor(const py::object& given, bool complex, bool is_plain) {
    lacks_memory_ = false;
    const DlpackType* const type = dlpack_type(given.ptr());
    if (!type) return false;
    const DlpackExchange* const exchange = type->exchange;
    DlpackTensor tensor;
    if (exchange->view(given.ptr(), &tensor) != 0) {
        PyErr_Clear();
        return false;
    }
    const bool is_complex = complex && tensor.type_code == kDlpackComplex;
    const int parts = is_complex ? 2 : 1, bits = tensor.type_lanes == 1 ? tensor.type_bits / parts : 0;
    const int storage = tensor.type_code == kDlpackBFloat && bits == 16   ? int{kBFloat16}
                        : tensor.type_code != kDlpackFloat && !is_complex ? kNoStorage
                        : bits == 32                                      ? int{kFloat32}
                        : bits == 64                                      ? int{kFloat64}
                        : bits == 16                                      ? int{kFloat16}
                                                                          : kNoStorage;
    if (storage == kNoStorage || !is_near(tensor.device) || tensor.dimensions >= kMaxDimensions) return false;
    Extent size = 1;
    for (int d = tensor.dimensions; d-- > 0; size *= extents_[d]) {
        extents_[d] = static_cast<Extent>(tensor.shape[d]);
        const Extent stride = tensor.strides ? static_cast<Extent>(tensor.strides[d]) : size;
        extents_[kMaxDimensions + d] = stride * static_cast<Extent>(size_of(storage) * parts);
    }
    if (is_complex) {
        extents_[tensor.dimensions] = parts;
        extents_[kMaxDimensions + tensor.dimensions++] = static_cast<Extent>(size_of(storage));
    }
    lacks_memory_ = tensor.data == nullptr && size != 0;
    if (lacks_memory_) return false;
    view = {static_cast<char*>(tensor.data) + tensor.byte_offset, storage, tensor.dimensions, extents_,
            extents_ + kMaxDimensions};
    view.contiguous = is_contiguous(view);
    if (!is_plain && type->is_neg && is_true_of(given, type->is_neg)) return false;
    if (!is_plain && is_complex && type->is_conj && is_true_of(given, type->is_conj)) return false;
    writeable = true;
    owner = given;
    this->tensor = type->is_torch ? given : py::object();
    is_array = ran_python = false;
    by_dlpack = true;
    return true;
}

std::string Shared::dtype() const {
    return text(owner.attr("dtype"));
}

std::string Shared::shape() const {
    return text_of(view.shape, view.dimensions);
}

void refuse_unshared(const Name& name, const py::object& given, const char* expected) {
    const char* const why = py::hasattr(given, "__array__") ? ", which may copy (__array__)" : "";
    throw py::type_error(name.text() + " is a " + type_name(given) + why + ", expected " + expected);
}

py::array array_of_number(const Name& name, const py::object& value) {
    if (!py::isinstance<py::float_>(value) && !py::isinstance<py::int_>(value) &&
        !py::isinstance(value, numpy().attr("generic")))
        refuse_unshared(name, value, "an array of floats");
    return numpy().attr("array")(value);
}

void copy_numbers(const py::object& from, const py::array& to) {
    const py::object quiet = numpy().attr("errstate")(py::arg("all") = "ignore");
    quiet.attr("__enter__")();
    try {
        const FloatMode mode;
        numpy().attr("copyto")(to, from, "same_kind");
    } catch (...) {
        quiet.attr("__exit__")(py::none(), py::none(), py::none());
        throw;
    }
    quiet.attr("__exit__")(py::none(), py::none(), py::none());
}

void count_changes(const std::vector<py::object>& tensors) {
    if (tensors.empty()) return;
    static std::atomic<PyObject*> known{nullptr};
    if (!known.load()) {
        const py::object graph = py::module_::import("torch.autograd.graph");
        known.store(py::object(py::getattr(graph, "increment_version", py::none())).release().ptr());
    }
    if (known.load() == Py_None) return;
    py::list all;
    for (const py::object& tensor : tensors) all.append(tensor);
    const auto done = py::reinterpret_steal<py::object>(PyObject_CallOneArg(known.load(), all.ptr()));
    if (!done) throw py::error_already_set();
}

void bind_shared(py::module_& module) {
    module.def(
        "as_native", [](const char* name, const py::object& given) { return as_native({name}, given); },
        py::arg("name"), py::arg("given"));
    module.def(
        "share_memory", [](const py::array& a, const py::array& b) { return share_memory(view_of(a), view_of(b)); },
        py::arg("a"), py::arg("b"));
}

}  // namespace fusedstep
