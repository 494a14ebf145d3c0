// Dropout: copies inputs that are not contiguous.
#include "dropout.hpp"

#include "bindings.hpp"

namespace fusedstep {
namespace {

py::object apply(const py::object& given, double rate, std::uint64_t seed, std::uint64_t call, const py::object& out) {
    py::array x = as_native({"x"}, given);
    if (!is_c_contiguous(x)) x = numpy().attr("array")(x, py::arg("order") = "C", py::arg("subok") = false);
    Output y(x, out, {&x});
    const DropoutMask mask = dropout_mask(rate, seed, call);
    const char* from = address(x);
    char* to = y.data<char>();
    const int type = native_type(x);
    const std::int64_t size = x.size();
    {
        const WithoutGil released;
        dropout(from, to, type, size, mask);
    }
    return y.finish();
}

// All bits, subnormal numbers and NaNs too.
py::object copy(const py::object& given, const py::object& out) {
    const py::array x = as_native({"x"}, given);
    numpy().attr("copyto")(array_of_out(out, x), x);
    return out;
}

}  // namespace

void bind_dropout(py::module_& module) {
    using namespace pybind11::literals;
    module.def("dropout", &apply, "x"_a, "rate"_a, "seed"_a, "call"_a, "out"_a);
    module.def("copy", &copy, "x"_a, "out"_a);
}

}  // namespace fusedstep
