// What the C interface checks of numbers, structs and arrays, and how an error becomes a code.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <new>

#include "arrays.hpp"
#include "fusedstep.h"

namespace fusedstep {

// An error on its way to guarded(), with what fusedstep_error tells of it.
struct Failure {
    int code;
    const char* field = nullptr;
    std::int64_t item = -1;
};

inline void require(bool holds, int code, const char* field) {
    if (!holds) throw Failure{code, field};
}

inline bool checked_flag(std::int64_t value, const char* field) {
    require(value == 0 || value == 1, FUSEDSTEP_OUT_OF_RANGE, field);
    return value == 1;
}

template <class T> void require_pointer(const T* pointer, const char* field) {
    require(pointer != nullptr, FUSEDSTEP_NULL_POINTER, field);
    require(reinterpret_cast<std::uintptr_t>(pointer) % alignof(T) == 0, FUSEDSTEP_MISALIGNED, field);
}

// Structs of callers consist of fields of 8 bytes, and of pairs of 4. Longer ones than any that will ever exist are
// refused, because their tail would be read.
constexpr std::size_t kLargestStruct = 4096;

inline void require_struct_size(std::size_t size, std::size_t least, const char* field) {
    require(size >= least && size <= kLargestStruct && size % 8 == 0, FUSEDSTEP_BAD_STRUCT, field);
}

// Reads the caller's struct of `size` bytes over the defaults of ours; `least` is where the optional fields begin.
template <class Struct>
void read_struct(const void* given, std::size_t size, std::size_t least, const char* field, Struct& ours) {
    require_struct_size(size, least, field);
    const char* const bytes = static_cast<const char*>(given);
    const std::size_t known = std::min(size, sizeof(Struct));
    require(std::all_of(bytes + known, bytes + size, [](char byte) { return byte == 0; }), FUSEDSTEP_BAD_STRUCT, field);
    std::memcpy(static_cast<void*>(&ours), bytes, known);
}

// The same of a struct that begins with its size.
template <class Struct>
void read_sized_struct(const Struct* given, std::size_t least, const char* field, Struct& ours) {
    require_pointer(given, field);
    read_struct(given, given->size, least, field, ours);
}

// Writes a struct into the caller's of `size` bytes, whose tail becomes zeros.
template <class Struct> void write_struct(const Struct& ours, Struct* result, std::size_t size, std::size_t least) {
    require_pointer(result, "result");
    require_struct_size(size, least, "size");
    std::memset(static_cast<void*>(result), 0, size);
    std::memcpy(static_cast<void*>(result), &ours, std::min(size, sizeof(Struct)));
}

// Runs body; its exceptions become codes.
template <class Body> int guarded(fusedstep_error* error, const Body& body) noexcept {
    Failure failure{FUSEDSTEP_OK};
    try {
        if (error) {
            require_pointer(error, "error");
            require_struct_size(error->size, sizeof(fusedstep_error), "error");
        }
    } catch (const Failure& unusable) {
        return unusable.code;
    }
    try {
        body();
    } catch (const Failure& known) {
        failure = known;
    } catch (const std::bad_alloc&) {
        failure.code = FUSEDSTEP_OUT_OF_MEMORY;
    } catch (...) {
        failure.code = FUSEDSTEP_INTERNAL_ERROR;
    }
    if (error) {
        error->item = failure.item;
        error->field = failure.field;
    }
    return failure.code;
}

inline std::int64_t product(std::int64_t a, std::int64_t b, const char* field) {
    require(a >= 0 && b >= 0 && (b == 0 || a <= std::numeric_limits<std::int64_t>::max() / b), FUSEDSTEP_BAD_SIZE,
            field);
    return a * b;
}

// A storage type of the header as one of the kernels.
inline int storage_of(std::int64_t type, const char* field) {
    static_assert(FUSEDSTEP_FLOAT32 == kFloat32 + 1 && FUSEDSTEP_FLOAT64 == kFloat64 + 1 &&
                  FUSEDSTEP_FLOAT16 == kFloat16 + 1 && FUSEDSTEP_BFLOAT16 == kBFloat16 + 1);
    require(type >= FUSEDSTEP_FLOAT32 && type <= FUSEDSTEP_BFLOAT16, FUSEDSTEP_UNKNOWN_TYPE, field);
    return static_cast<int>(type - 1);
}

// The memory of n elements, which is there, aligned, and ends within the address space.
inline Span checked_span(const void* array, std::int64_t n, std::int64_t item_size, bool written, const char* field) {
    const auto bytes = static_cast<std::uintptr_t>(product(n, item_size, field));
    if (n == 0) return {nullptr, nullptr, written};
    require(array != nullptr, FUSEDSTEP_NULL_POINTER, field);
    const auto address = reinterpret_cast<std::uintptr_t>(array);
    require(address % static_cast<std::uintptr_t>(item_size) == 0, FUSEDSTEP_MISALIGNED, field);
    require(address <= std::numeric_limits<std::uintptr_t>::max() - bytes, FUSEDSTEP_BAD_SIZE, field);
    const char* const low = static_cast<const char*>(array);
    return {low, low + bytes, written};
}

}  // namespace fusedstep
