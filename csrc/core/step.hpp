// One step over many arrays: each a parameter with its gradient and state, and a program of stages of its own.
#pragma once

#include <cstddef>
#include <memory>
#include <vector>

#include "arrays.hpp"
#include "rules.hpp"

namespace fusedstep {

// Two arrays of one parameter, of which one is written, share memory; by operand (table.hpp).
struct OperandsOverlap {
    int first, second;
};

// The arrays of a step are added, which checks and plans, and may throw; then the step is run, which can't fail. Arrays
// that share memory with those of another parameter are updated one parameter after the other, in the order in which
// they were added. A gradient that shares memory with its own parameter or state is copied before it is used.
class Step {
  public:
    void reserve(std::size_t parameters);

    // operands: the parameter, its gradient, its state, all of one shape. copy: where the new parameter is written
    // besides, rounded to the storage type there, or null. The program must live as long as the step.
    void add(const Program& program, const View* operands, const View* copy = nullptr);

    // Memory that is read in place of a gradient, as the step must know it to find overlaps.
    void add_read(const Span& span) { spans_.push_back(span); }

    // To be called once, when all parameters have been added; the last that may throw.
    void plan();

    // Whether parameters are updated one after the other.
    bool is_sequential() const { return sequential_; }

    // How much all parameters together read and write.
    std::int64_t bytes() const { return bytes_; }

    void run();

    // One parameter of a sequential step, by its number; those of empty arrays count too.
    void run_one(std::size_t number);

  private:
    static constexpr int kCopy = kTemporary;  // behind all operands that are arrays
    static constexpr int kArrays = kTemporary + 1;

    struct Geometry {
        Extents shape, strides[kArrays];
    };

    // What few items need.
    struct Extra {
        Geometry geometry;                      // if an array is not contiguous
        std::unique_ptr<char[]> gradient_copy;  // uninitialised, if the gradient must be copied
        std::unique_ptr<Program> own_program;   // if coefficients follow from its own sums
        std::unique_ptr<double[]> squares;      // of each tile
    };

    // As small as can be: with many small arrays, threads wait for these more than for the arrays themselves.
    struct Item {
        Item() {}  // leaves the numbers uninitialised, as there may be many items

        std::int64_t size;
        std::int64_t end;  // in tiles, in the concatenation of all that take part in a pass
        const Program* program;
        std::unique_ptr<Extra> extra;
        // Of arrays, a bit each: used where they are, being contiguous, aligned, and of the arithmetic's type; not
        // contiguous. A copy is never direct.
        unsigned direct, strided;
        std::int32_t bytes;  // that an element reads and writes
        bool has_copy;
        std::uint16_t storage[kArrays];
        char* data[kArrays];

        const Extents* strides(int array) const {
            return (strided >> array & 1) != 0 ? &extra->geometry.strides[array] : nullptr;
        }
    };

    static Extra& with_extra(Item& item) {
        if (!item.extra) item.extra = std::make_unique<Extra>();
        return *item.extra;
    }

    class Rows;

    static void find_strides(Item& item, const View* const* views, int count);
    static void load_array(const Item& item, int array, std::int64_t begin, std::int64_t n, void* row);
    static void copy_gradient(Item& item);
    static void run_part(const Item& item, int pass, std::int64_t begin, std::int64_t end);
    static void run_whole(const Item& item, const Call& call, std::int64_t begin, std::int64_t end);
    static void run_tiles(const Item& item, const Program::Pass& pass, bool copies, std::int64_t begin,
                          std::int64_t end);
    static void run_pass(Item* first, Item* last, int number);
    static void run_passes(Item* first, Item* last);

    std::vector<Item> items_;
    std::vector<Span> spans_;
    bool sequential_ = false;
    std::int64_t bytes_ = 0;
};

}  // namespace fusedstep
