#include "dlpack_exchange.hpp"

#include <atomic>

namespace fusedstep {
namespace {

// Types that have been asked, which are few; they are kept for good, so that no other type gets their address.
struct Known {
    PyTypeObject* type;
    const DlpackExchange* exchange;
    const Known* next;
};

std::atomic<const Known*> known{nullptr};

// The interface that the type's capsule holds, if we can read its version.
const DlpackExchange* ask(PyTypeObject* type) {
    PyObject* const capsule = PyObject_GetAttrString(reinterpret_cast<PyObject*>(type), "__dlpack_c_exchange_api__");
    const DlpackExchange* found = nullptr;
    if (capsule) found = static_cast<const DlpackExchange*>(PyCapsule_GetPointer(capsule, "dlpack_exchange_api"));
    Py_XDECREF(capsule);
    PyErr_Clear();
    while (found && found->major != 1) found = found->previous;
    return found && found->view ? found : nullptr;
}

}  // namespace

const DlpackExchange* dlpack_exchange(PyObject* object) {
    PyTypeObject* const type = Py_TYPE(object);
    for (const Known* each = known.load(std::memory_order_acquire); each; each = each->next)
        if (each->type == type) return each->exchange;
    const DlpackExchange* const exchange = ask(type);
    if (!exchange) return nullptr;  // types that have none may be many, and short-lived
    Py_INCREF(type);
    auto* const entry = new Known{type, exchange, known.load()};
    while (!known.compare_exchange_weak(entry->next, entry)) {
    }
    return exchange;
}

}  // namespace fusedstep
