#include "step.hpp"

#include <algorithm>
#include <mutex>

namespace fusedstep {
namespace {

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

const Program& measurement(int arithmetic) {
    static const auto* const programs = [] {
        auto* made = new Program[kArithmetics]{Program(kFloat32, 0), Program(kFloat64, 0)};
        for (int i = 0; i < kArithmetics; ++i) made[i].pass[0].used = 1u << kParameter;
        return made;
    }();
    return programs[arithmetic];
}

void Step::reserve(std::size_t parameters) {
    items_.reserve(parameters);
    spans_.reserve(parameters * 4);
    if (measure_ != Measure::kNothing) first_tiles_.reserve(parameters);
}

static bool begins_aligned(const View& view) {
    return (reinterpret_cast<std::uintptr_t>(view.data) & static_cast<std::uintptr_t>(size_of(view.storage) - 1)) == 0;
}

// One row of a matrix.
static View row_of(const View& matrix) {
    return {matrix.data, matrix.storage, matrix.dimensions - 1, matrix.shape + 1, matrix.strides + 1};
}

void Step::add(const Program& program, const View* operands, const Around& around) {
    Item& item = items_.emplace_back();
    item.size = around.rows ? operands[kGradient].size() : operands->size();
    item.program = &program;
    item.strided = item.outputs = 0;
    item.zeroes_gradient = around.zeroes_gradient;
    if (measure_ != Measure::kNothing) first_tiles_.push_back(tiles_);
    if (item.size == 0) return;
    if (!around.rows || measure_ == Measure::kGradients) tiles_ += tiles_of(item.size);
    zeroes_ = zeroes_ || around.zeroes_gradient;

    Part parts[kArrays];
    int count = 0;
    const auto take = [&](int array, const View& view) {
        parts[count].array = array;
        parts[count++].view = &view;
    };
    for (int i = 0; i < 2 + program.states; ++i)
        if (i != kGradient || program.uses_gradient() || around.zeroes_gradient) take(i, operands[i]);
    if (around.copy) take(kCopy, *around.copy);
    if (around.narrow) take(kNarrow, *around.narrow);
    bool contiguous = true;
    std::int64_t bytes = 0;
    unsigned direct = 0;
    for (Part* part = parts; part != parts + count; ++part) {
        const int array = part->array;
        const View& view = *part->view;
        const bool is_output = array >= kTemporary, here = is_contiguous(view);
        const bool written = array != kGradient || around.zeroes_gradient;
        const std::int64_t item_size = size_of(view.storage);
        bytes += item_size;
        if (written && !is_output) bytes += item_size;
        item.data[array] = view.data;
        item.storage[array] = static_cast<std::uint8_t>(view.storage);
        if (here)
            part->span = {view.data, view.data + (around.rows ? view.size() : item.size) * item_size, written};
        else
            part->span = span_of(view, written);
        if (around.rows && array != kGradient) {
            const View row = row_of(view);
            with_extra(item).row_strides[array] = view.strides[0];
            contiguous = contiguous && is_contiguous(row);
            const bool direct_rows = view.storage == program.arithmetic && is_contiguous(row) && is_aligned(view);
            item.extra->direct_rows |= static_cast<unsigned>(direct_rows) << array;
        } else {
            contiguous = contiguous && here;
            if (view.storage == program.arithmetic && !is_output && (here ? begins_aligned(view) : is_aligned(view)))
                direct |= 1u << array;
        }
        if (is_output) item.outputs |= 1u << array;
        spans_.push_back(part->span);
    }
    if (program.factored.is_set) {
        bytes -= add_factors(item, operands, parts, count);
        direct &= ~kFactored;
    }
    item.direct = direct;
    item.bytes = static_cast<std::int32_t>(bytes);
    bytes_ += item.size * item.bytes;
    if (around.rows) {
        item.extra->rows = *around.rows;
        item.extra->row_size = item.size / around.rows->count;
    }
    if (around.stochastic != 0) {
        // Of a parameter with a master, the master is stored as it is.
        const unsigned narrow = around.narrow ? around.stochastic & 1u << kParameter : 0;
        with_extra(item).stochastic = (around.stochastic ^ narrow) | (narrow != 0 ? 1u << kNarrow : 0);
        item.extra->randomness = around.randomness;
    }
    const bool in_row_major_order = program.between || measure_ != Measure::kNothing || around.stochastic != 0;
    if (!contiguous) find_strides(item, parts, count, in_row_major_order);
    find_overlaps(item, parts, count);
    if (around.zeroes_gradient && !operands[kGradient].contiguous && overlaps_itself(operands[kGradient]))
        zeroes_last_ = true;
    if (program.between) {
        with_extra(item).own_program = std::make_unique<Program>(program);
        item.extra->program = &program;
        item.program = item.extra->own_program.get();
        int most = 0;
        for (int pass = 0; pass < program.passes; ++pass) most = std::max(most, program.pass[pass].square_count);
        item.extra->squares.reset(new double[static_cast<std::size_t>(tiles_of(item.size) * most)]);
    }
}

// Stages read roots of moments in place of two states. Returns the bytes that an element would move of these.
int Step::add_factors(Item& item, const View* operands, Part* parts, int count) {
    with_extra(item).factors = std::make_unique<Factors>(operands, item.program->arithmetic);
    std::int64_t bytes = 0;
    for (int i = 0; i < count; ++i) {
        const int array = parts[i].array;
        if (!has(kFactored, array)) continue;
        const View& view = *parts[i].view;
        parts[i].span = spans_[spans_.size() - static_cast<std::size_t>(count - i)] = span_of(view, true);
        bytes += 2 * size_of(view.storage);
    }
    return static_cast<int>(bytes);
}

// Elements are visited in the order in which the parameter has them in memory, unless the result depends on the order.
void Step::find_strides(Item& item, const Part* parts, int count, bool in_row_major_order) {
    Geometry& geometry = with_extra(item).geometry;
    const auto visited = [&](const Part& part) { return item.has_rows() ? row_of(*part.view) : *part.view; };
    const View parameter = visited(parts[0]);
    std::vector<int> order = memory_order(parameter);
    if (in_row_major_order) std::sort(order.begin(), order.end());
    geometry.shape = permuted(parameter.shape, order);
    std::vector<Extents*> strided;
    for (const Part* part = parts; part != parts + count; ++part) {
        if (part->array == kGradient && item.has_rows()) continue;
        if (item.extra->factors && has(kFactored, part->array)) continue;
        const View view = visited(*part);
        Extents strides = permuted(view.strides, order);
        if (is_dense(geometry.shape, strides, size_of(view.storage))) continue;
        geometry.strides[part->array] = std::move(strides);
        item.strided |= 1u << part->array;
        item.direct &= ~(1u << part->array);
        strided.push_back(&geometry.strides[part->array]);
    }
    coalesce(geometry.shape, strided);
}

void Step::find_overlaps(Item& item, const Part* parts, int count) {
    for (int i = 0; i < count; ++i) {
        for (int j = 0; j < i; ++j) {
            if (!parts[i].span.overlaps(parts[j].span)) continue;
            const int a = parts[j].array, b = parts[i].array;
            const bool by_gradient = a == kGradient || b == kGradient;
            if (!by_gradient || item.zeroes_gradient) {
                if (!share_memory(*parts[j].view, *parts[i].view)) continue;
                throw OperandsOverlap{a, b};
            }
            if (!with_extra(item).gradient_copy)
                item.extra->gradient_copy.reset(
                    new char[static_cast<std::size_t>(item.size * size_of(item.program->arithmetic))]);
        }
    }
}

// Sorting many spans takes as long as updating small arrays. A loop steps the same arrays again and again, so the last
// that didn't overlap are remembered; a thread that doesn't get at them at once sorts.
void Step::plan() {
    constexpr std::size_t kMost = 1 << 16;
    static std::mutex mutex;
    static auto* const disjoint = new std::vector<Span>;  // never destroyed, as threads may outlive the module
    if (measure_ != Measure::kNothing) squares_.reset(new double[static_cast<std::size_t>(tiles_)]);
    if (items_.size() < 2) return;  // what one shares with itself has been found
    std::unique_lock lock(mutex, std::try_to_lock);
    if (lock && spans_ == *disjoint) return;
    sequential_ = any_overlap(spans_);
    zeroes_last_ = zeroes_ && (zeroes_last_ || sequential_);
    for (std::size_t i = 0; zeroes_ && sequential_ && i < items_.size(); ++i)
        for (const Item& other : items_)
            if (&other != &items_[i] && !may_zero(items_[i], other)) throw ZeroedOverlap{i};
    if (lock && !sequential_ && spans_.size() <= kMost) disjoint->swap(spans_);
}

// Whether zeros in an item's gradient leave alone all that another one writes.
bool Step::may_zero(const Item& item, const Item& other) {
    if (item.size == 0 || other.size == 0 || !item.zeroes_gradient) return true;
    Extents shapes[2], strides[2];
    const auto view_of = [&](const Item& of, int array, int i) {
        if (of.extra && of.extra->factors && has(kFactored, array)) return of.extra->factors->moments(array - kState);
        const Extents* const own = of.strides(array);
        const bool has_rows = of.has_rows() && array != kGradient;
        shapes[i] =
            own ? of.extra->geometry.shape : Extents{static_cast<Extent>(has_rows ? of.extra->row_size : of.size)};
        strides[i] = own ? *own : Extents{static_cast<Extent>(size_of(of.storage[array]))};
        if (has_rows) {
            const RowNumbers& rows = of.extra->rows;
            shapes[i].insert(shapes[i].begin(),
                             static_cast<Extent>(*std::max_element(rows.numbers, rows.numbers + rows.count) + 1));
            strides[i].insert(strides[i].begin(), static_cast<Extent>(of.extra->row_strides[array]));
        }
        return View{of.data[array], of.storage[array], static_cast<int>(shapes[i].size()), shapes[i].data(),
                    strides[i].data()};
    };
    const View gradient = view_of(item, kGradient, 0);
    const Span zeroed = span_of(gradient, true);
    for (int array = 0; array < kArrays; ++array) {
        const bool written = array < 2 + other.program->states ? array != kGradient : has(other.outputs, array);
        if (!written) continue;
        const View view = view_of(other, array, 1);
        if (zeroed.overlaps(span_of(view, true)) && share_memory(gradient, view)) return false;
    }
    return true;
}

}  // namespace fusedstep
