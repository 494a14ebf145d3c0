// The Python module.
#include <string>

#include "bindings.hpp"
#include "c_api.hpp"
#include "dispatch.hpp"
#include "float_mode.hpp"
#include "parallel.hpp"

PYBIND11_MODULE(_native_of_main, module, pybind11::mod_gil_not_used()) {
    namespace py = pybind11;
    using namespace pybind11::literals;
    using namespace fusedstep;

    module.attr("version") = FUSEDSTEP_VERSION;
    module.attr("compiler") = FUSEDSTEP_COMPILER;
    module.attr("c_api") = py::capsule(&c_api, FUSEDSTEP_CAPSULE);
    bind_update(module);
    bind_tensor_groups(module);
    bind_batch_norm(module);
    bind_dropout(module);
    bind_memory(module);
    bind_shared(module);
    bind_sums(module);

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

// In a sub-interpreter pybind11 would wait for the GIL that it holds.
PYBIND11_PLUGIN_IMPL(_native) {
    if (PyInterpreterState_Get() == PyInterpreterState_Main()) return PyInit__native_of_main();
    PyErr_SetString(PyExc_ImportError, "fusedstep can't be imported in a sub-interpreter");
    return nullptr;
}
