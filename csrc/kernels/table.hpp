// The kernel table: what one instruction set's object file offers, as plain structs and function pointers.
#pragma once

#include <cstdint>

namespace fusedstep {

// How the elements of an array are stored. The first two are also what arithmetic is done in.
enum Storage { kFloat32, kFloat64, kFloat16, kBFloat16, kStorages };
constexpr int kArithmetics = 2;

constexpr std::int64_t kTile = 1024;  // elements of one array that all stages of a pass run over before the next tile

constexpr int kMaxStates = 7;  // of a rule one less: the last may be an average
constexpr int kMaxTemporaries = 2;
// The operands of stages, which are rows of a tile: the arrays of a step, and rows that exist within a tile alone.
enum { kParameter, kGradient, kState, kTemporary = kState + kMaxStates };
constexpr int kMaxOperands = kTemporary + kMaxTemporaries;
constexpr int kMaxCoefficients = 12;

// One formula, run over n elements: a rule, or a part of a step around it (stages.hpp). Its operands are contiguous
// arrays of the arithmetic's type that don't overlap, in the order of the formula's arguments.
using StageFunction = void (*)(std::int64_t n, const double* coefficients, void* const* operands);

struct Stage {
    const char* name;
    int operands;
    unsigned written;  // bit i: the formula writes operand i
    int coefficients;
    StageFunction run[kArithmetics];
    // The stage after a scale or a weight decay, in one loop, with that one's coefficient first: where a parameter is
    // in the cache, a loop of its own for the decay costs a third of Adam. Null if the stage is no rule.
    StageFunction after_scale[kArithmetics], after_add_decay[kArithmetics], after_shrink[kArithmetics];

    // The stage between a scale and an average: the average comes first of the operands and last of the coefficients.
    StageFunction with_average[kArithmetics];
};

// Converts n contiguous elements; those that are stored need not be aligned.
using Convert = void (*)(std::int64_t n, const void* from, void* to);

// Where the random bits of an array's elements come from, 16 for each: a function of these and the element's number.
struct Randomness {
    std::uint64_t seed, update;
    std::uint32_t array, slot;  // slot: 1 for the parameter, then 2 for its first state ...
};

// Elements begin at number `first`, a multiple of kDropoutElements. A number between two neighbours of the narrower
// type becomes the farther one with a probability that is the part of the way to it.
using ConvertRandomly = void (*)(std::int64_t first, std::int64_t n, const void* from, void* to,
                                 const Randomness& randomness);

// The sum of the squares of at most kTile elements of the arithmetic's type (reductions.hpp).
using SumOfSquares = double (*)(std::int64_t n, const void* values);

// Of `rows` rows of n elements, which begin `pitch` elements apart: adds the square of each element to the sum of its
// column, and gives the sums of those of each row as SumOfSquares does.
using AddSquares = void (*)(std::int64_t rows, std::int64_t n, const void* values, std::int64_t pitch, double* sums,
                            double* squares);

// Adds the squares of n parameters to 8 lanes, and those of their factored updates to 8 more, from the first lane on.
// root: of the moment of the row that all are in.
using AddUpdateSquares = void (*)(std::int64_t n, double floor, double root, const void* parameters,
                                  const void* gradients, const void* roots, double* lanes);

// A part of the input of batch normalisation that is worked on at once. Either elements begin to end of one channel,
// which is stored in runs of `run` contiguous elements, each `stride` after the last; or rows begin to end of a panel
// of `channels` columns, each column a channel, each row `stride` after the last.
struct Tile {
    std::int64_t stride, run, begin, end, channels;
    bool nontemporal;  // where the result goes
};

constexpr std::int64_t kPanelColumns = 1024;  // no panel whose statistics are taken is wider

// The members of Moments (batch_norm_formulas.hpp), an element a channel.
struct MomentArrays {
    double *base, *offset, *m2, *offset_squares, *cancelled;

    MomentArrays operator+(std::int64_t n) const {
        return {base + n, offset + n, m2 + n, offset_squares + n, cancelled + n};
    }
};

// What batch normalisation does with a tile. Arrays of elements start at the first channel's first element, arrays of
// statistics and coefficients at the first channel. The coefficients (batch_norm_formulas.hpp) are stored in rows of
// `pitch`, a row for each coefficient. y and dx may be the same memory as x or dout.
template <class T> struct BatchNormKernels {
    void (*moments)(const T* x, const Tile& tile, const MomentArrays& moments);
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
                                 bool nontemporal);
constexpr std::int64_t kDropoutElements = 64;

// A result of this size would evict its own beginning, and the input, from the last cache.
constexpr std::int64_t kNontemporalBytes = 16 << 20;

struct KernelTable {
    const char* isa;
    const Stage* stages;
    int stage_count;
    Convert load[kStorages][kArithmetics];                    // from a storage type to an arithmetic's
    Convert store[kStorages][kArithmetics];                   // and back, rounding to nearest, ties to even
    ConvertRandomly store_randomly[kStorages][kArithmetics];  // null for storage types that arithmetic is done in
    SumOfSquares sum_of_squares[kArithmetics];
    AddSquares add_squares[kArithmetics];
    AddUpdateSquares add_update_squares[kArithmetics];
    BatchNormTable<float> batch_norm_float32;
    BatchNormTable<double> batch_norm_float64;
    DropoutFunction dropout[kArithmetics];
};

}  // namespace fusedstep
