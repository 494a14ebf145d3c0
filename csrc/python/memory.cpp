// Memory of the arrays that the library makes: its place relative to cache lines and pages, and a cache of dead
// results.
#include <pybind11/stl.h>

#include <cstdint>
#include <mutex>
#include <utility>
#include <vector>

#include "bindings.hpp"

namespace fusedstep {
namespace {

constexpr std::size_t kLine = 64, kPage = 4096;
constexpr std::size_t kLarge = 8 * kPage;  // bytes of an array for which a page more is little
constexpr std::size_t kWorthKeeping = 64 * kPage;
constexpr std::size_t kGranule = 16 * kPage;  // what is kept fits arrays whose sizes differ by less

// The memory of arrays that died, oldest first, up to a limit. A new result that takes it pays no page faults, which
// for a large one can cost more than what is computed. Nothing of Python is called while the lock is held.
class BufferCache {
  public:
    // Null if there is none of that size.
    py::array take(std::size_t bytes) {
        const std::lock_guard lock(mutex_);
        for (std::size_t i = memory_.size(); i-- > 0;)
            if (size_of(memory_[i]) == bytes) return remove(i);
        return no_array();
    }

    // Returns whether there was anything.
    bool clear() {
        std::vector<py::array> freed;
        const std::lock_guard lock(mutex_);
        freed.swap(memory_);
        bytes_ = 0;
        return !freed.empty();
    }

    void keep(py::array memory) {
        std::vector<py::array> freed;  // when the lock is no longer held
        const std::lock_guard lock(mutex_);
        bytes_ += size_of(memory);
        memory_.push_back(std::move(memory));
        drop(freed);
    }

    void set_limit(std::size_t limit) {
        std::vector<py::array> freed;
        const std::lock_guard lock(mutex_);
        limit_ = limit;
        drop(freed);
    }

    std::size_t limit() {
        const std::lock_guard lock(mutex_);
        return limit_;
    }

  private:
    static std::size_t size_of(const py::array& memory) { return static_cast<std::size_t>(memory.nbytes()); }

    void drop(std::vector<py::array>& freed) {
        while (bytes_ > limit_) freed.push_back(remove(0));
    }

    py::array remove(std::size_t i) {
        py::array memory = std::move(memory_[i]);
        memory_.erase(memory_.begin() + static_cast<std::ptrdiff_t>(i));
        bytes_ -= size_of(memory);
        return memory;
    }

    std::mutex mutex_;
    std::vector<py::array> memory_;
    std::size_t bytes_ = 0, limit_ = std::size_t{512} << 20;
};

// Never destroyed: arrays may outlive the module.
BufferCache& buffer_cache() {
    static BufferCache* const cache = new BufferCache;
    return *cache;
}

// From numpy.empty or numpy.zeros. Where memory is short, what is kept for later results is given up first.
py::array allocate(const char* how, const py::object& shape, const py::object& type) {
    const py::object make = numpy().attr(how);
    try {
        return make(shape, type);
    } catch (py::error_already_set& error) {
        if (!error.matches(PyExc_MemoryError) || !buffer_cache().clear()) throw;
    }
    return make(shape, type);
}

// Where in `memory` an array begins: at a cache line, and a large one `apart` bytes from another array's place in
// its page. Where all arrays of a loop have the same offset in their pages, which is what malloc gives large ones,
// processors take loads from one for loads of what was just stored to another. `memory` has room for `unit` bytes more.
char* place(const py::array& memory, std::size_t unit, const char* other, std::size_t apart) {
    const auto wanted = reinterpret_cast<std::uintptr_t>(other) / kLine * kLine + apart;
    return address(memory) + (wanted - reinterpret_cast<std::uintptr_t>(address(memory))) % unit;
}

// From the parameter's place in its page to that of a state.
std::size_t apart(int state) {
    return static_cast<std::size_t>(state + 1) * (kPage / 3 / kLine * kLine);
}

std::vector<py::ssize_t> shape_of(const py::array& a) {
    return {a.shape(), a.shape() + a.ndim()};
}

}  // namespace

static py::dtype dtype_of(int storage) {
    if (storage == kFloat16) return py::dtype("f2");
    if (storage != kBFloat16) return py::dtype(storage == kFloat64 ? "f8" : "f4");
    try {
        return py::dtype::from_args(py::module_::import("ml_dtypes").attr("bfloat16"));
    } catch (py::error_already_set& error) {
        if (error.matches(PyExc_ImportError))
            py::raise_from(error, PyExc_ImportError, "arrays in bfloat16 need the package ml_dtypes");
        throw py::error_already_set();
    }
}

py::array zeros_beside(const View& parameter, int storage, int state) {
    const py::dtype type = dtype_of(storage);
    std::vector<py::ssize_t> shape(parameter.shape, parameter.shape + parameter.dimensions);
    if (!is_contiguous(parameter) || !is_aligned(parameter)) {
        const std::vector<int> order = memory_order(parameter);
        std::vector<std::size_t> place(order.size());
        for (std::size_t d = 0; d < order.size(); ++d) place[static_cast<std::size_t>(order[d])] = d;
        const Extents in_order = permuted(parameter.shape, order);
        return allocate("zeros", py::tuple(py::cast(in_order)), type).attr("transpose")(py::tuple(py::cast(place)));
    }
    const auto bytes = static_cast<std::size_t>(parameter.size() * size_of(storage));
    const std::size_t unit = bytes >= kLarge ? kPage : kLine;
    const py::array memory = allocate("zeros", py::int_(bytes + unit), py::dtype("u1"));
    return py::array(type, std::move(shape), place(memory, unit, parameter.data, apart(state)), memory);
}

py::array zeros(const Extents& shape, int storage) {
    return allocate("zeros", py::tuple(py::cast(shape)), dtype_of(storage));
}

py::array uninitialized(const Extents& shape, int storage) {
    return allocate("empty", py::tuple(py::cast(shape)), dtype_of(storage));
}

py::array copy_apart(const py::array& array, int state) {
    if (!is_c_contiguous(array)) return numpy().attr("array")(array);
    const auto bytes = static_cast<std::size_t>(array.nbytes());
    const std::size_t unit = bytes >= kLarge ? kPage : kLine;
    const py::array memory = allocate("empty", py::int_(bytes + unit), py::dtype("u1"));
    py::array copy(array.dtype(), shape_of(array), place(memory, unit, nullptr, apart(state)), memory);
    numpy().attr("copyto")(copy, array);
    return copy;
}

py::array result_like(const py::array& x) {
    const auto bytes = static_cast<std::size_t>(x.nbytes());
    if (bytes < kWorthKeeping) return numpy().attr("empty_like")(x, py::arg("subok") = false);
    const std::size_t whole = (bytes + kPage + kGranule - 1) / kGranule * kGranule;
    py::array memory = buffer_cache().take(whole);
    if (!memory) memory = allocate("empty", py::int_(whole), py::dtype("u1"));
    char* const start = place(memory, kPage, address(x), kPage / 2);
    void (*const die)(void*) = [](void* dead) {
        buffer_cache().keep(py::reinterpret_steal<py::array>(static_cast<PyObject*>(dead)));
    };
    const py::capsule owner(memory.release().ptr(), die);
    const std::vector<py::ssize_t> strides(x.strides(), x.strides() + x.ndim());
    return py::array(x.dtype(), shape_of(x), strides, start, owner);
}

void bind_memory(py::module_& module) {
    module.def("set_buffer_cache", [](std::size_t bytes) { buffer_cache().set_limit(bytes); }, py::arg("bytes"));
    module.def("copy_apart", &copy_apart, py::arg("array"), py::arg("state"));
    module.def("get_buffer_cache", [] { return buffer_cache().limit(); });
}

}  // namespace fusedstep
