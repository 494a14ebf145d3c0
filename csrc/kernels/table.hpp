// The kernel table: what one instruction set's object file offers, as plain structs and function pointers.
#pragma once

#include <cstdint>

namespace fusedstep {

enum { kParameter, kGradient, kState };  // indices of the arrays of an update

// Updates n weights. arrays: the parameter, its gradient, then the state arrays, all contiguous, of one type, disjoint.
using UpdateFunction = void (*)(std::int64_t n, const double* coefficients, void* const* arrays);

enum { kFloat32, kFloat64 };  // indices into the pairs of functions below

struct UpdateRule {
    const char* name;
    int states;
    int coefficients;
    UpdateFunction plain[2];
    UpdateFunction l2[2];  // takes one more coefficient, the weight decay
};

constexpr int kMaxStates = 2;
constexpr int kMaxCoefficients = 8;  // the weight decay included

// A part of the input of batch normalisation that is worked on at once. Either elements begin to end of one channel,
// which lies in runs of `run` contiguous elements, each `stride` after the last; or rows begin to end of a panel of
// `channels` columns, each column a channel, each row `stride` after the last.
struct Tile {
    std::int64_t stride, run, begin, end, channels;
    bool past_caches;  // where the result goes
};

constexpr std::int64_t kPanelColumns = 1024;  // no panel whose statistics are taken is wider

// What batch normalisation does with a tile. Arrays of elements start at the first channel's first element, arrays of
// statistics and coefficients at the first channel. The coefficients (batch_norm.hpp) lie in rows of `pitch`, a row for
// each coefficient. y and dx may be the same memory as x or dout.
template <class T> struct BatchNormKernels {
    void (*moments)(const T* x, const Tile& tile, double* base, double* offset, double* m2);
    void (*sums)(const T* x, const T* dout, const Tile& tile, const T* coefficients, std::int64_t pitch, double* sum,
                 double* dot);
    void (*normalize)(const T* x, T* y, const Tile& tile, const T* coefficients, std::int64_t pitch);
    void (*gradient)(const T* x, const T* dout, T* dx, const Tile& tile, const T* coefficients, std::int64_t pitch);
};

template <class T> struct BatchNormTable {
    BatchNormKernels<T> channel, panel;
};

// Which elements dropout keeps: a function of the seed, the number of the call and the element's number. An element's
// 32 random bits are compared with the threshold; what is kept is scaled.
struct DropoutMask {
    std::uint64_t seed, call;
    std::uint32_t threshold;
    double scale;
};

// Elements begin at number `first` of an array, a multiple of kDropoutElements. y may be x.
using DropoutFunction = void (*)(const void* x, void* y, std::int64_t first, std::int64_t n, const DropoutMask& mask,
                                 bool past_caches);
constexpr std::int64_t kDropoutElements = 64;

// A result of this size would drive its own beginning, and the input, out of the last cache.
constexpr std::int64_t kPastCachesBytes = 16 << 20;

struct KernelTable {
    const char* isa;
    const UpdateRule* rules;
    int rule_count;
    BatchNormTable<float> batch_norm_float32;
    BatchNormTable<double> batch_norm_float64;
    DropoutFunction dropout[2];
};

}  // namespace fusedstep
