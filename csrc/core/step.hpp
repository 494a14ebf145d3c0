// One step over many arrays: each a parameter with its gradient and state, and a program of stages of its own.
#pragma once

#include <atomic>
#include <cstddef>
#include <memory>
#include <vector>

#include "arrays.hpp"
#include "factors.hpp"
#include "rules.hpp"

namespace fusedstep {

// Two arrays of one parameter, of which one is written, share memory; by operand (table.hpp), copies as kTemporary.
struct OperandsOverlap {
    int first, second;
};

// A gradient that is to be zeroed shares memory with another array that is written; by the order of adding.
struct ZeroedOverlap {
    std::size_t number;
};

// The rows of a matrix that take part in a step, all different.
struct RowNumbers {
    const std::int64_t* numbers;
    std::int64_t count;
};

// What a step does with a parameter besides its program.
struct Around {
    const View* copy = nullptr;    // where the new parameter is written besides, rounded to nearest, or null
    const View* narrow = nullptr;  // the parameter itself, if the program steps a copy of it in the arithmetic's type
    bool zeroes_gradient = false;
    unsigned stochastic = 0;  // arrays that are rounded stochastically, a bit each; the narrow parameter as kParameter
    Randomness randomness = {};
    const RowNumbers* rows = nullptr;  // if the gradient has only these rows, one after the other, without gaps
};

// What the sum of squares is taken of: all gradients, or all new parameters, which rows of a parameter are not part of.
enum class Measure { kNothing, kGradients, kParameters };

// A program that changes nothing, for parameters that are measured only.
const Program& measurement(int arithmetic);

struct Norm {
    double value;
    bool is_finite;  // all elements are; the norm may still be infinite
};

// The norm of arrays whose tiles have these sums of squares.
double norm_of_squares(const double* squares, std::int64_t n);

// The arrays of a step are added, which checks and plans, and may throw; then the step is run, which can't fail. Arrays
// that share memory with those of another parameter are updated one parameter after the other, in the order in which
// they were added. A gradient that shares memory with its own parameter or state is copied before it is used.
class Step {
  public:
    explicit Step(Measure measure = Measure::kNothing) : measure_(measure) {}

    void reserve(std::size_t parameters);

    // operands: the parameter, its gradient, its state, all of one shape but for states of rows and columns. The
    // program must live as long as the step.
    void add(const Program& program, const View* operands, const Around& around = {});

    // Memory that is read in place of a gradient, as the step must know it to find overlaps.
    void add_read(const Span& span) { spans_.push_back(span); }

    // To be called once, when all parameters have been added; the last that may throw.
    void plan();

    // The norm of the gradients, after the stages that come before clipping. To be called before `run`.
    Norm norm_of_gradients();

    // Whether parameters are updated one after the other.
    bool is_sequential() const { return sequential_; }

    // How much all parameters together read and write.
    std::int64_t bytes() const { return bytes_; }

    void run();

    // The first pass of parameters whose program waits for the caller, all or one. It changes nothing but what they
    // wait for. To be called before `run`, which makes the other passes.
    void run_first();
    void run_first_of(std::size_t number) { run_first(&items_[number], &items_[number] + 1); }

    // One parameter of a sequential step, by its number; those of empty arrays count too. Gradients are zeroed by
    // another call when all have been run.
    void run_one(std::size_t number);

    // Also in place of `run`, if the step is to be left out.
    void zero_gradients();

    // The norm of the new parameters, after `run`.
    Norm norm_of_parameters() const { return norm(); }

    // What that is made of: the sum of squares of each tile, in their order.
    const double* squares() const { return squares_.get(); }
    std::int64_t tiles() const { return tiles_; }

  private:
    static std::int64_t tiles_of(std::int64_t size) { return (size + kTile - 1) / kTile; }
    static bool has(unsigned arrays, int array) { return (arrays >> array & 1) != 0; }

    enum { kCopy = kTemporary, kNarrow, kArrays };       // behind all operands that are arrays
    static constexpr unsigned kFactored = 3u << kState;  // states of rows and columns, a bit each

    struct Geometry {
        Extents shape, strides[kArrays];
    };

    // What few items need.
    struct Extra {
        Geometry geometry;                      // if an array is not contiguous
        std::unique_ptr<char[]> gradient_copy;  // uninitialised, if the gradient must be copied
        std::unique_ptr<Program> own_program;   // if coefficients follow from its own sums
        const Program* program;                 // that it is a copy of
        std::unique_ptr<double[]> squares;      // of each tile
        std::unique_ptr<Factors> factors;       // if moments are those of rows and columns
        unsigned stochastic = 0;
        Randomness randomness;
        RowNumbers rows = {};
        std::int64_t row_size, row_strides[kArrays];  // in elements; in bytes
        unsigned direct_rows = 0;                     // arrays whose rows are used where they are, a bit each
    };

    // As small as can be: with many small arrays, threads wait for these more than for the arrays themselves.
    struct Item {
        Item() {}  // leaves the numbers uninitialised, as there may be many items

        std::int64_t size;
        std::int64_t end;  // in tiles, in the concatenation of all that take part in a pass
        const Program* program;
        std::unique_ptr<Extra> extra;
        // Of arrays, a bit each: used where they are, being contiguous, aligned, and of the arithmetic's type; not
        // contiguous; written from the parameter's row, which are never direct.
        unsigned direct, strided, outputs;
        std::int32_t bytes;  // that an element reads and writes
        bool zeroes_gradient;
        std::uint8_t storage[kArrays];
        char* data[kArrays];

        const Extents* strides(int array) const {
            return (strided >> array & 1) != 0 ? &extra->geometry.strides[array] : nullptr;
        }

        bool has_rows() const { return extra && extra->rows.numbers; }
    };

    static Extra& with_extra(Item& item) {
        if (!item.extra) item.extra = std::make_unique<Extra>();
        return *item.extra;
    }

    class Rows;

    // An array of an item.
    struct Part {
        int array;
        const View* view;
        Span span;
    };

    int add_factors(Item& item, const View* operands, Part* parts, int count);
    static void find_strides(Item& item, const Part* parts, int count, bool in_row_major_order);
    static void find_overlaps(Item& item, const Part* parts, int count);
    static bool may_zero(const Item& item, const Item& other);
    template <class BytesOf, class Run>
    static void run_parts(Item* first, Item* last, const BytesOf& bytes_of, const Run& run);
    template <class Run>
    static void for_each_segment(const Item& item, int array, std::int64_t begin, std::int64_t n, const Run& run);
    static void load_array(const Item& item, int array, std::int64_t begin, std::int64_t n, void* row);
    static void store_array(const Item& item, int array, std::int64_t begin, std::int64_t n, const void* row);
    static void zero_gradient(const Item& item, std::int64_t begin, std::int64_t n);
    static void copy_gradient(Item& item);
    void run_part(const Item& item, int pass, std::int64_t begin, std::int64_t end);
    static void run_rows(const Item& item, const Call& call, std::int64_t begin, std::int64_t end);
    static void run_whole(const Item& item, const Call& call, std::int64_t begin, std::int64_t end);
    void run_tiles(const Item& item, int pass, std::int64_t begin, std::int64_t end);
    static void add_squares(const Item& item, std::int64_t task);
    static void add_update_squares(const Item& item, std::int64_t begin, std::int64_t end);
    static void run_factors(Item* first, Item* last);
    void measure(const Item& item, std::int64_t begin, std::int64_t n, const void* row);
    Norm norm() const;
    void run_pass(Item* first, Item* last, int number);
    void run_passes(Item* first, Item* last);
    void run_first(Item* first, Item* last);

    const Measure measure_;
    std::vector<Item> items_;
    std::vector<Span> spans_;
    bool sequential_ = false;
    bool zeroes_ = false, zeroes_last_ = false;  // any gradients; when all parameters are done
    std::int64_t bytes_ = 0, tiles_ = 0;
    std::vector<std::int64_t> first_tiles_;  // of each item, if sums of squares are taken
    std::unique_ptr<double[]> squares_;      // of each tile
    std::atomic<bool> is_finite_{true};
};

}  // namespace fusedstep
