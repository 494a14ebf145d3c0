#include "step.hpp"

#include <algorithm>
#include <mutex>

#include "compensated.hpp"
#include "dispatch.hpp"
#include "float_mode.hpp"
#include "parallel.hpp"
#include "strided.hpp"

namespace fusedstep {
namespace {

constexpr std::int64_t kTaskTiles = 16;  // enough to hide what handing out a task costs

// Elements that are converted at once. While a processor waits for memory in one stage it can begin the next, if that
// is not too far: Adam on 40 million bfloat16 takes 0.8 of the time that it takes with whole tiles.
constexpr std::int64_t kStrip = 512;

std::int64_t tiles_of(std::int64_t size) {
    return (size + kTile - 1) / kTile;
}

bool has(unsigned operands, int operand) {
    return (operands >> operand & 1) != 0;
}

// Drops axes of length 1 and joins axes that all the given strides step through as through one.
void coalesce(Extents& shape, const std::vector<Extents*>& all_strides) {
    std::size_t kept = 0;
    for (std::size_t d = 0; d < shape.size(); ++d) {
        if (shape[d] == 1) continue;
        const bool joins = kept > 0 && std::all_of(all_strides.begin(), all_strides.end(), [&](const Extents* strides) {
                               return (*strides)[kept - 1] == (*strides)[d] * shape[d];
                           });
        const std::size_t to = joins ? kept - 1 : kept++;
        shape[to] = joins ? shape[to] * shape[d] : shape[d];
        for (Extents* strides : all_strides) (*strides)[to] = (*strides)[d];
    }
    if (kept == 0) {
        shape.assign(1, 1);
        for (Extents* strides : all_strides) strides->assign(1, 0);
        return;
    }
    shape.resize(kept);
    for (Extents* strides : all_strides) strides->resize(kept);
}

}  // namespace

// A tile of an item as rows that stages run over: the arrays themselves, or scratch that they are loaded into.
class Step::Rows {
  public:
    explicit Rows(const Item& item) : item_(item), program_(*item.program) {}

    void* load(int operand, std::int64_t begin, std::int64_t n, bool changes) {
        if (operand >= kTemporary) return scratch(operand);
        if (has(item_.direct, operand) && !(operand == kGradient && changes))
            return item_.data[operand] + begin * size_of(program_.arithmetic);
        load_array(item_, operand, begin, n, scratch(operand));
        return scratch(operand);
    }

    void store(int to, std::int64_t begin, std::int64_t n, const void* row) {
        char* const data = item_.data[to];
        const int storage = item_.storage[to];
        if (const Extents* const strides = item_.strides(to))
            scatter(item_.extra->geometry.shape, *strides, data, storage, begin, n, program_.arithmetic, row);
        else
            table().store[storage][program_.arithmetic](n, row, data + begin * size_of(storage));
    }

  private:
    // Rows a multiple of 4 KiB apart would map to the same cache sets, and loads would wait for stores to another row.
    static constexpr std::size_t kRowPadding = 5 * 64;

    void* scratch(int operand) { return scratch_[operand]; }

    const Item& item_;
    const Program& program_;
    alignas(64) char scratch_[kMaxOperands][kTile * sizeof(double) + kRowPadding];
};

void Step::reserve(std::size_t parameters) {
    items_.reserve(parameters);
    spans_.reserve(parameters * 4);
}

void Step::add(const Program& program, const View* operands, const View* copy) {
    const int count = 2 + program.states;
    const View* views[kArrays];
    for (int i = 0; i < count; ++i) views[i] = operands + i;
    Item& item = items_.emplace_back();
    item.size = operands->size();
    item.program = &program;
    item.strided = 0;
    item.has_copy = copy != nullptr;
    if (item.size == 0) return;

    const std::size_t first = spans_.size();
    bool contiguous = true;
    std::int64_t bytes = 0;
    unsigned direct = 0;
    for (int i = 0; i < count; ++i) {
        const View& view = operands[i];
        const bool here = is_contiguous(view);
        contiguous = contiguous && here;
        const std::int64_t item_size = size_of(view.storage);
        bytes += i == kGradient ? item_size : 2 * item_size;
        const bool aligned =
            here ? (reinterpret_cast<std::uintptr_t>(view.data) & (item_size - 1)) == 0 : is_aligned(view);
        item.data[i] = view.data;
        item.storage[i] = static_cast<std::uint16_t>(view.storage);
        direct |= static_cast<unsigned>(view.storage == program.arithmetic && aligned) << i;
        spans_.push_back(here ? Span{view.data, view.data + item.size * item_size, i != kGradient}
                              : span_of(view, i != kGradient));
    }
    if (copy) {
        bytes += size_of(copy->storage);
        item.data[kCopy] = copy->data;
        item.storage[kCopy] = static_cast<std::uint16_t>(copy->storage);
        contiguous = contiguous && is_contiguous(*copy);
        views[count] = copy;
        spans_.push_back(span_of(*copy, true));
    }
    item.direct = direct;
    item.bytes = static_cast<std::int32_t>(bytes);
    bytes_ += item.size * item.bytes;
    if (!contiguous) find_strides(item, views, count + (copy ? 1 : 0));

    for (std::size_t i = first; i < spans_.size(); ++i) {
        for (std::size_t j = first; j < i; ++j) {
            if (!spans_[i].overlaps(spans_[j])) continue;
            const int a = static_cast<int>(j - first), b = static_cast<int>(i - first);
            if (a != kGradient && b != kGradient) {
                if (!share_memory(*views[a], *views[b])) continue;
                throw OperandsOverlap{a, b == count ? int{kCopy} : b};
            }
            if (!with_extra(item).gradient_copy)
                item.extra->gradient_copy.reset(
                    new char[static_cast<std::size_t>(item.size * size_of(program.arithmetic))]);
        }
    }
    if (program.between) {
        with_extra(item).own_program = std::make_unique<Program>(program);
        item.program = item.extra->own_program.get();
        int most = 0;
        for (int pass = 0; pass < program.passes; ++pass) most = std::max(most, program.pass[pass].square_count);
        item.extra->squares.reset(new double[static_cast<std::size_t>(tiles_of(item.size) * most)]);
    }
}

// Elements are visited in the order in which the parameter has them in memory, or where sums are taken in row-major
// order, which the layout doesn't change.
void Step::find_strides(Item& item, const View* const* views, int count) {
    Geometry& geometry = with_extra(item).geometry;
    std::vector<int> order = memory_order(*views[kParameter]);
    if (item.program->between) std::sort(order.begin(), order.end());
    geometry.shape = permuted(views[kParameter]->shape, order);
    std::vector<Extents*> strided;
    for (int i = 0; i < count; ++i) {
        const int operand = i == 2 + item.program->states ? int{kCopy} : i;
        Extents strides = permuted(views[i]->strides, order);
        if (is_dense(geometry.shape, strides, size_of(views[i]->storage))) continue;
        geometry.strides[operand] = std::move(strides);
        item.strided |= 1u << operand;
        item.direct &= ~(1u << operand);
        strided.push_back(&geometry.strides[operand]);
    }
    coalesce(geometry.shape, strided);
}

// Sorting many spans takes as long as updating small arrays. A loop steps the same arrays again and again, so the last
// that didn't overlap are remembered; a thread that doesn't get at them at once sorts.
void Step::plan() {
    constexpr std::size_t kMost = 1 << 16;
    static std::mutex mutex;
    static auto* const disjoint = new std::vector<Span>;  // never destroyed, as threads may outlive the module
    std::unique_lock lock(mutex, std::try_to_lock);
    if (lock && spans_ == *disjoint) return;
    sequential_ = any_overlap(spans_);
    if (lock && !sequential_ && spans_.size() <= kMost) disjoint->swap(spans_);
}

void Step::load_array(const Item& item, int array, std::int64_t begin, std::int64_t n, void* row) {
    const char* const data = item.data[array];
    const int storage = item.storage[array], arithmetic = item.program->arithmetic;
    if (const Extents* const strides = item.strides(array))
        gather(item.extra->geometry.shape, *strides, data, storage, begin, n, arithmetic, row);
    else
        table().load[storage][arithmetic](n, data + begin * size_of(storage), row);
}

void Step::copy_gradient(Item& item) {
    if (!item.extra || !item.extra->gradient_copy) return;
    const FloatMode mode;  // it may be converted
    char* const copy = item.extra->gradient_copy.get();
    const int arithmetic = item.program->arithmetic;
    for (std::int64_t begin = 0; begin < item.size; begin += kTile)
        load_array(item, kGradient, begin, std::min(kTile, item.size - begin), copy + begin * size_of(arithmetic));
    item.data[kGradient] = copy;
    item.storage[kGradient] = static_cast<std::uint16_t>(arithmetic);
    item.direct |= 1u << kGradient;
    item.strided &= ~(1u << kGradient);
}

void Step::run_part(const Item& item, int number, std::int64_t begin, std::int64_t end) {
    const Program& program = *item.program;
    const Program::Pass& pass = program.pass[number];
    const bool copies = item.has_copy && number == program.passes - 1;
    // One stage needs no tiles where nothing has to be loaded.
    if ((pass.used & ~item.direct) == 0 && pass.end - pass.first == 1 && pass.square_count == 0 && !copies &&
        !has(pass.written, kGradient))
        run_whole(item, program.calls[pass.first], begin, end);
    else
        run_tiles(item, pass, copies, begin, end);
}

void Step::run_whole(const Item& item, const Call& call, std::int64_t begin, std::int64_t end) {
    const int arithmetic = item.program->arithmetic;
    void* operands[kMaxOperands];
    for (int i = 0; i < call.operand_count; ++i)
        operands[i] = item.data[call.operands[i]] + begin * size_of(arithmetic);
    call.run[arithmetic](end - begin, call.coefficients, operands);
}

void Step::run_tiles(const Item& item, const Program::Pass& pass, bool copies, std::int64_t begin, std::int64_t end) {
    const Program& program = *item.program;
    const bool gradient_changes = has(pass.written, kGradient);
    const std::int64_t step = pass.square_count != 0 || item.extra ? kTile : kStrip;
    Rows rows(item);
    for (; begin < end; begin += step) {
        const std::int64_t n = std::min(step, end - begin);
        void* at[kMaxOperands];
        for (int operand = 0; operand < kMaxOperands; ++operand)
            if (has(pass.used, operand)) at[operand] = rows.load(operand, begin, n, gradient_changes);
        for (const Call* call = program.calls + pass.first; call != program.calls + pass.end; ++call) {
            void* operands[kMaxOperands];
            for (int i = 0; i < call->operand_count; ++i) operands[i] = at[call->operands[i]];
            call->run[program.arithmetic](n, call->coefficients, operands);
        }
        for (int i = 0; i < pass.square_count; ++i)
            item.extra->squares[tiles_of(item.size) * i + begin / kTile] =
                table().sum_of_squares[program.arithmetic](n, at[pass.squares[i]]);
        for (int operand = 0; operand < kTemporary; ++operand)
            if (operand != kGradient && has(pass.written & ~item.direct, operand))
                rows.store(operand, begin, n, at[operand]);
        if (copies) rows.store(kCopy, begin, n, at[kParameter]);
    }
}

void Step::run_pass(Item* first, Item* last, int number) {
    const auto takes_part = [=](const Item& item) { return item.size != 0 && number < item.program->passes; };
    std::int64_t total = 0, bytes = 0;
    for (Item* item = first; item != last; ++item) {
        if (takes_part(*item)) {
            total += tiles_of(item->size);
            bytes += item->size * item->bytes;
        }
        item->end = total;
    }
    parallel_for((total + kTaskTiles - 1) / kTaskTiles, bytes, [&](std::int64_t task) {
        const FloatMode mode;
        std::int64_t begin = task * kTaskTiles;
        const std::int64_t end = std::min(begin + kTaskTiles, total);
        const Item* item =
            std::upper_bound(first, last, begin, [](std::int64_t tile, const Item& each) { return tile < each.end; });
        for (; begin < end; ++item) {
            const std::int64_t start = item == first ? 0 : (item - 1)->end, stop = std::min(item->end, end);
            if (stop == start) continue;
            run_part(*item, number, (begin - start) * kTile, std::min((stop - start) * kTile, item->size));
            begin = stop;
        }
    });
    for (Item* item = first; item != last; ++item) {
        if (!takes_part(*item) || !item->program->between || number == item->program->passes - 1) continue;
        const FloatMode mode;
        const int count = item->program->pass[number].square_count;
        double totals[kMaxOperands];
        for (int i = 0; i < count; ++i) {
            double high = 0, low = 0;
            const double* const squares = item->extra->squares.get() + tiles_of(item->size) * i;
            for (std::int64_t tile = 0; tile < tiles_of(item->size); ++tile) compensated_add(high, low, squares[tile]);
            totals[i] = high + low;
        }
        item->extra->own_program->between(*item->extra->own_program, number, totals);
    }
}

void Step::run_passes(Item* first, Item* last) {
    int passes = 0;
    for (Item* item = first; item != last; ++item) {
        copy_gradient(*item);
        passes = std::max(passes, item->program->passes);
    }
    for (int pass = 0; pass < passes; ++pass) run_pass(first, last, pass);
}

void Step::run() {
    if (!sequential_) {
        run_passes(items_.data(), items_.data() + items_.size());
        return;
    }
    for (std::size_t i = 0; i < items_.size(); ++i) run_one(i);
}

void Step::run_one(std::size_t number) {
    run_passes(&items_[number], &items_[number] + 1);
}

}  // namespace fusedstep
