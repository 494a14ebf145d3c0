// The loop over a stage's formula, and its row in the kernel table: both follow from the type of its call operator.
#pragma once

#include <cstddef>
#include <cstring>
#include <tuple>
#include <type_traits>
#include <utility>

#include "stages.hpp"
#include "table.hpp"

// Without a name for the reason given in stages_around.hpp.
namespace {

// No two operands overlap. ivdep: GCC forgets that where it inlines this, and would not compare the addresses of six.
template <class Formula, class... Operands>
void each(Formula formula, std::int64_t n, Operands* __restrict... operands) {
#pragma GCC ivdep
    for (std::int64_t i = 0; i < n; ++i) formula(operands[i]...);
}

template <class Operator> struct Arguments;

template <class Formula, class... A> struct Arguments<void (Formula::*)(A...) const> {
    using T = std::remove_const_t<std::remove_reference_t<std::tuple_element_t<0, std::tuple<A...>>>>;
    static_assert(((std::is_same_v<A, T&> || std::is_same_v<A, const T&>) && ...));
    static constexpr int count = sizeof...(A);
    static_assert(count <= fusedstep::kMaxOperands);

    static constexpr unsigned written() {
        unsigned bits = 0, bit = 1;
        ((bits |= std::is_same_v<A, T&> ? bit : 0, bit <<= 1), ...);
        return bits;
    }

    // Of this formula or of one that takes the same arguments.
    template <class Same> static void run(std::int64_t n, const double* given, void* const* at) {
        run<Same>(n, given, at, std::make_index_sequence<sizeof...(A)>());
    }

    // Of one that takes an average before these arguments.
    template <class More> static void run_with_average(std::int64_t n, const double* given, void* const* at) {
        Arguments<void (Formula::*)(T&, A...) const>::template run<More>(n, given, at);
    }

  private:
    template <class Same, std::size_t... I>
    static void run(std::int64_t n, const double* given, void* const* at, std::index_sequence<I...>) {
        constexpr int count = std::is_empty_v<Same> ? 0 : sizeof(Same) / sizeof(T);
        static_assert(std::is_trivially_copyable_v<Same> && count <= fusedstep::kMaxCoefficients);
        T rounded[fusedstep::kMaxCoefficients];
        for (int i = 0; i < count; ++i) rounded[i] = static_cast<T>(given[i]);
        Same formula;
        std::memcpy(&formula, rounded, count * sizeof(T));
        each(formula, n, static_cast<std::remove_reference_t<A>*>(at[I])...);
    }
};

// What list_stages writes to, once to count the stages and once to fill the table.
struct StageCounter {
    int count = 0;

    template <template <class> class> constexpr void stage(const char*) { ++count; }
    template <template <class> class> constexpr void rule(const char*) { ++count; }
};

constexpr int count_stages() {
    StageCounter counter;
    list_stages(counter);
    return counter.count;
}

struct StageList {
    fusedstep::Stage stages[count_stages()] = {};
    int count = 0;

    template <template <class> class Formula> constexpr void stage(const char* name) {
        using Single = Arguments<decltype(&Formula<float>::operator())>;
        using Double = Arguments<decltype(&Formula<double>::operator())>;
        fusedstep::Stage& row = stages[count++];
        row.name = name;
        row.operands = Single::count;
        row.written = Single::written();
        row.coefficients = std::is_empty_v<Formula<float>> ? 0 : sizeof(Formula<float>) / sizeof(float);
        row.run[fusedstep::kFloat32] = Single::template run<Formula<float>>;
        row.run[fusedstep::kFloat64] = Double::template run<Formula<double>>;
    }

    // A stage whose first operands are the parameter, which it writes, and the gradient, which it reads.
    template <template <class> class Formula> constexpr void rule(const char* name) {
        using Single = Arguments<decltype(&Formula<float>::operator())>;
        using Double = Arguments<decltype(&Formula<double>::operator())>;
        static_assert(Single::count >= 2 && Single::written() % 4 == 1);
        stage<Formula>(name);
        fusedstep::Stage& row = stages[count - 1];
        row.after_scale[fusedstep::kFloat32] = Single::template run<AfterScale<float, Formula>>;
        row.after_scale[fusedstep::kFloat64] = Double::template run<AfterScale<double, Formula>>;
        row.after_add_decay[fusedstep::kFloat32] = Single::template run<AfterAddDecay<float, Formula>>;
        row.after_add_decay[fusedstep::kFloat64] = Double::template run<AfterAddDecay<double, Formula>>;
        row.with_average[fusedstep::kFloat32] = Single::template run_with_average<WithAverage<float, Formula>>;
        row.with_average[fusedstep::kFloat64] = Double::template run_with_average<WithAverage<double, Formula>>;
        row.after_shrink[fusedstep::kFloat32] = Single::template run<AfterShrink<float, Formula>>;
        row.after_shrink[fusedstep::kFloat64] = Double::template run<AfterShrink<double, Formula>>;
    }
};

constexpr StageList make_stages() {
    StageList list;
    list_stages(list);
    return list;
}

constexpr StageList kStageList = make_stages();

}  // namespace
