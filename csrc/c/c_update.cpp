// Steps of many arrays for the C interface: all items are checked, then all are updated in one region.
#include <algorithm>
#include <cmath>
#include <deque>
#include <functional>
#include <utility>
#include <vector>

#include "c_checks.hpp"
#include "c_functions.hpp"
#include "c_settings.hpp"
#include "step.hpp"

namespace fusedstep {
namespace {

// More would be past the address space, in items here or there.
constexpr std::int64_t kMaxItems = INT64_MAX / 1024;

const char* name_of(int operand, bool averages, int states) {
    constexpr const char* kStateNames[] = {"state[0]", "state[1]", "state[2]", "state[3]", "state[4]", "state[5]"};
    static_assert(std::size(kStateNames) == FUSEDSTEP_MAX_STATES);
    if (operand == kParameter) return "parameter";
    if (operand == kGradient) return "gradient";
    if (operand == kTemporary) return "copy";
    return averages && operand == kState + states - 1 ? "average" : kStateNames[operand - kState];
}

// The items of a call, checked and added to a step one by one.
class Items {
  public:
    explicit Items(Measure measure) : step(measure) {}

    // Calls add(item, index) for each.
    template <class Add>
    void read(std::int64_t count, const fusedstep_item* items, std::size_t item_size, const Add& add) {
        constexpr std::size_t kLeast = offsetof(fusedstep_item, copy);
        require(count >= 0 && count <= kMaxItems, FUSEDSTEP_BAD_SIZE, "count");
        require_struct_size(item_size, kLeast, "item_size");
        if (count > 0) require_pointer(items, "items");
        step.reserve(static_cast<std::size_t>(count));
        const char* at = reinterpret_cast<const char*>(items);
        for (std::int64_t i = 0; i < count; ++i, at += item_size) {
            try {
                fusedstep_item item{};
                read_struct(at, item_size, kLeast, "item_size", item);
                require(item.n >= 0, FUSEDSTEP_BAD_SIZE, "n");
                add(item, i);
            } catch (Failure& failure) {
                failure.item = i;
                throw;
            }
        }
        try {
            step.plan();
        } catch (const ZeroedOverlap& overlap) {
            throw Failure{FUSEDSTEP_OVERLAP, "gradient", static_cast<std::int64_t>(overlap.number)};
        }
    }

    // around: the randomness, and whether the parameter is rounded stochastically; the rest follows from the item.
    void add(const fusedstep_item& item, const Program& program, Around around) {
        const int arithmetic = program.arithmetic, states = program.states;
        const bool averages = program.values[kAverage] != kOff;
        const int own_states = states - (averages ? 1 : 0);
        const int parameter = storage_of(item.parameter_type, "parameter_type");
        const int gradient = storage_of(item.gradient_type, "gradient_type");
        const int state = own_states == 0 ? arithmetic : storage_of(item.state_type, "state_type");
        require(state == arithmetic || (state == kBFloat16 && arithmetic == kFloat32), FUSEDSTEP_UNSUPPORTED_TYPE,
                "state_type");
        if (parameter == arithmetic) around.stochastic = 0;
        around.zeroes_gradient = checked_flag(item.zero_gradient, "zero_gradient");
        const RowNumbers rows = rows_of(item);
        const bool has_rows = item.row_size != 0;
        if (has_rows) around.rows = &rows;
        const auto columns = static_cast<Extent>(has_rows ? item.row_size : item.n);
        const bool is_factored = program.factored.is_set;
        const Shape whole = is_factored ? factored_shape(item)
                                        : Shape{2, {has_rows ? static_cast<Extent>(item.n) / columns : 1, columns}};
        Shape part = whole, factors[2];
        if (has_rows) part.extents[0] = static_cast<Extent>(rows.count);
        for (int i = 0; is_factored && i < 2; ++i) {
            factors[i] = whole;
            if (whole.axes == 3) factors[i].extents[2 - i] = 1;
        }
        if (is_factored && whole.axes == 1) factors[0].extents[0] = 0;
        Extent strides[kTemporary + 1][3];
        View views[kTemporary + 1];
        const auto view = [&](int operand, const void* array, int stored) {
            const int state = operand - kState;
            const auto& [axes, extents] = operand == kGradient                        ? part
                                          : is_factored && (state == 0 || state == 1) ? factors[state]
                                                                                      : whole;
            auto step = static_cast<Extent>(size_of(stored));
            for (int d = axes; d-- > 0; step *= extents[d]) strides[operand][d] = step;
            views[operand] = {
                static_cast<char*>(const_cast<void*>(array)), stored, axes, extents, strides[operand], true};
            checked_span(array, views[operand].size(), size_of(stored), true, name_of(operand, averages, states));
        };
        view(kParameter, item.parameter, parameter);
        view(kGradient, item.gradient, gradient);
        for (int i = 0; i < own_states; ++i) {
            view(kState + i, item.state[i], state);
            if (state != arithmetic) around.stochastic |= 1u << (kState + i);
        }
        if (averages) view(kState + own_states, item.average, arithmetic);
        if (item.copy) {
            view(kTemporary, item.copy, storage_of(item.copy_type, "copy_type"));
            around.copy = views + kTemporary;
        }
        try {
            step.add(program, views, around);
        } catch (const OperandsOverlap& overlap) {
            // Of a gradient, only one that becomes zero.
            const bool by_gradient = overlap.first == kGradient || overlap.second == kGradient;
            throw Failure{FUSEDSTEP_OVERLAP, by_gradient ? "gradient" : name_of(overlap.second, averages, states)};
        }
    }

    // Measures a single array.
    void add_measured(const void* array, std::int64_t n, int storage, const char* field) {
        checked_span(array, n, size_of(storage), false, field);
        const Extent shape = static_cast<Extent>(n), stride = static_cast<Extent>(size_of(storage));
        const View view = {static_cast<char*>(const_cast<void*>(array)), storage, 1, &shape, &stride, true};
        const View views[] = {view, view};
        step.add(measurement(arithmetic_of(storage)), views);
    }

    // Copied, as an update may write where they are.
    RowNumbers rows_of(const fusedstep_item& item) {
        require(item.row_size >= 0 && (item.row_size == 0 || item.n % item.row_size == 0), FUSEDSTEP_BAD_SIZE,
                "row_size");
        product(item.row_size, sizeof(double), "row_size");
        if (item.row_size == 0) return {nullptr, 0};
        const std::int64_t count = item.row_count, all = item.n / item.row_size;
        require(count >= 0 && count <= all, FUSEDSTEP_BAD_SIZE, "row_count");
        checked_span(item.rows, count, sizeof(std::int64_t), false, "rows");
        const std::vector<std::int64_t>& rows = rows_.emplace_back(item.rows, item.rows + count);
        const bool ascend = std::adjacent_find(rows.begin(), rows.end(), std::greater_equal<>()) == rows.end();
        require(ascend && (count == 0 || (rows.front() >= 0 && rows.back() < all)), FUSEDSTEP_OUT_OF_RANGE, "rows");
        return {rows.data(), count};
    }

    Step step;

  private:
    struct Shape {
        int axes;
        Extent extents[3];
    };

    // Of a parameter whose state is that of rows and columns.
    static Shape factored_shape(const fusedstep_item& item) {
        require(item.row_size == 0, FUSEDSTEP_BAD_SIZE, "row_size");
        const std::int64_t size = product(item.matrix_rows, item.matrix_columns, "matrix_rows");
        require(size != 0 ? item.n % size == 0 : item.matrix_rows == item.matrix_columns, FUSEDSTEP_BAD_SIZE,
                "matrix_rows");
        if (size == 0) return {1, {static_cast<Extent>(item.n)}};
        return {3,
                {static_cast<Extent>(item.n / size), static_cast<Extent>(item.matrix_rows),
                 static_cast<Extent>(item.matrix_columns)}};
    }

    std::deque<std::vector<std::int64_t>> rows_;  // which moves none of them
};

fusedstep_gradients checked_gradients(const fusedstep_gradients* given) {
    fusedstep_gradients gradients{};
    if (!given) return gradients;
    read_sized_struct(given, sizeof gradients, "gradients", gradients);
    const bool clips = checked_flag(gradients.clips, "clips");
    checked_flag(gradients.skip_nonfinite, "skip_nonfinite");
    const bool is_known = checked_flag(gradients.norm_is_known, "norm_is_known");
    require(!clips || is_within(Limit::kNotNegative, gradients.clip_norm), FUSEDSTEP_OUT_OF_RANGE, "clip_norm");
    require(!is_known || !(gradients.gradient_norm < 0), FUSEDSTEP_OUT_OF_RANGE, "gradient_norm");
    return gradients;
}

}  // namespace

int update(std::int64_t count, const fusedstep_item* given_items, std::size_t item_size, fusedstep_gradients* result,
           fusedstep_error* error) noexcept {
    return guarded(error, [&] {
        const fusedstep_gradients gradients = checked_gradients(result);
        const bool clips = gradients.clips != 0, skips_nonfinite = gradients.skip_nonfinite != 0;
        const bool measures = (clips || skips_nonfinite) && gradients.norm_is_known == 0;
        Programs programs({measures, clips});
        Items items(measures ? Measure::kGradients : Measure::kNothing);
        std::vector<std::pair<double*, const Programs::Built*>> scalars;
        items.read(count, given_items, item_size, [&](const fusedstep_item& item, std::int64_t i) {
            const int storage = storage_of(item.parameter_type, "parameter_type");
            const Programs::Built& built = programs.of(item.settings, arithmetic_of(storage), item.scalars);
            if (!built.resolved.rule->scalars.empty()) scalars.emplace_back(item.scalars, &built);
            Around around;
            around.stochastic = built.resolved.stochastic ? 1u << kParameter : 0;
            around.randomness = {built.resolved.seed, static_cast<std::uint64_t>(built.resolved.t),
                                 static_cast<std::uint32_t>(i), 0};
            items.add(item, built.program, around);
        });
        const Norm norm = measures ? items.step.norm_of_gradients()
                                   : Norm{gradients.gradient_norm, std::isfinite(gradients.gradient_norm)};
        const bool skips = skips_nonfinite && !norm.is_finite;
        if (skips) {
            items.step.zero_gradients();
        } else {
            if (clips) programs.set_clip(clip_factor(gradients.clip_norm, norm.value));
            items.step.run();
            for (const auto& [at, built] : scalars)
                std::copy_n(built->program.scalars, built->resolved.rule->scalars.size(), at);
        }
        if (!result) return;
        if (measures) result->gradient_norm = norm.value;
        result->skipped = skips ? 1 : 0;
    });
}

int accumulate(std::int64_t count, const fusedstep_item* given_items, std::size_t item_size, double scale, double* norm,
               fusedstep_error* error) noexcept {
    return guarded(error, [&] {
        require(is_within(Limit::kNotNegative, scale), FUSEDSTEP_OUT_OF_RANGE, "scale");
        if (norm) require_pointer(norm, "norm");
        Program programs[kArithmetics];
        for (int arithmetic = 0; arithmetic < kArithmetics; ++arithmetic) {
            Values values;
            const std::vector<Hyperparameter>& known = accumulation().hyperparameters;
            for (std::size_t i = 0; i < known.size(); ++i) values[i] = known[i].fallback;
            values[kScale] = scale;
            build(accumulation(), arithmetic, values, 1, {}, programs[arithmetic]);
        }
        Items items(norm ? Measure::kParameters : Measure::kNothing);
        items.read(count, given_items, item_size, [&](const fusedstep_item& item, std::int64_t) {
            const int storage = storage_of(item.parameter_type, "parameter_type");
            if (item.gradient)
                items.add(item, programs[arithmetic_of(storage)], {});
            else
                items.add_measured(item.parameter, item.n, storage, "parameter");
        });
        items.step.run();
        if (norm) *norm = items.step.norm_of_parameters().value;
    });
}

int gradient_norm(std::int64_t count, const fusedstep_item* given_items, std::size_t item_size, double* norm,
                  fusedstep_error* error) noexcept {
    return guarded(error, [&] {
        require_pointer(norm, "norm");
        Items items(Measure::kParameters);
        items.read(count, given_items, item_size, [&](const fusedstep_item& item, std::int64_t) {
            const int storage = storage_of(item.gradient_type, "gradient_type");
            const std::int64_t n = item.row_size == 0 ? item.n : items.rows_of(item).count * item.row_size;
            items.add_measured(item.gradient, n, storage, "gradient");
        });
        items.step.run();
        *norm = items.step.norm_of_parameters().value;
    });
}

}  // namespace fusedstep
