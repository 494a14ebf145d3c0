// The loops and the kernel table. The only file that is compiled once per instruction set: it has no global symbol but
// its table, so that no code for a newer processor can end up in another table or in the rest of the library.
//
// FUSEDSTEP_TABLE is the table's identifier, FUSEDSTEP_ISA its name in Python; CMakeLists.txt sets both.
#include <cstring>
#include <type_traits>

#include "batch_norm_loops.hpp"
#include "dropout_loops.hpp"
#include "stages.hpp"
#include "table.hpp"

namespace {

template <class Rule, class T, class... State>
void update_each(Rule rule, int64_t n, T* __restrict w, const T* __restrict g, State* __restrict... state) {
    for (int64_t i = 0; i < n; ++i) rule(w[i], g[i], state[i]...);
}

template <class Rule, class T> void update(int64_t n, const double* coefficients, void* const* arrays) {
    static_assert(std::is_trivially_copyable_v<Rule> && Rule::states <= fusedstep::kMaxStates);
    constexpr int count = sizeof(Rule) / sizeof(T);
    static_assert(count <= fusedstep::kMaxCoefficients);

    T rounded[count];
    for (int i = 0; i < count; ++i) rounded[i] = static_cast<T>(coefficients[i]);
    Rule rule;
    std::memcpy(&rule, rounded, sizeof rule);

    T* a[2 + Rule::states];
    for (int i = 0; i < 2 + Rule::states; ++i) a[i] = static_cast<T*>(arrays[i]);
    if constexpr (Rule::states == 0)
        update_each(rule, n, a[0], a[1]);
    else if constexpr (Rule::states == 1)
        update_each(rule, n, a[0], a[1], a[2]);
    else
        update_each(rule, n, a[0], a[1], a[2], a[3]);
}

template <template <class> class Rule> constexpr fusedstep::UpdateRule rule(const char* name) {
    return {name,
            Rule<float>::states,
            sizeof(Rule<float>) / sizeof(float),
            {update<Rule<float>, float>, update<Rule<double>, double>},
            {update<L2<float, Rule>, float>, update<L2<double, Rule>, double>}};
}

constexpr fusedstep::UpdateRule kRules[] = {
    rule<Sgd>("sgd"),
    rule<Momentum>("momentum"),
    rule<MomentumPlainVelocity>("momentum_plain_velocity"),
    rule<Nesterov>("nesterov"),
    rule<NesterovNewVelocity>("nesterov_new_velocity"),
    rule<AdaGrad>("adagrad"),
    rule<RmsProp>("rmsprop"),
    rule<Adam>("adam"),
    rule<AdamW>("adamw"),
    rule<Limit1>("limit1"),
    rule<Limit2>("limit2"),
};

template <class T> constexpr fusedstep::BatchNormTable<T> kBatchNorm = {
    {channel_moments<T>, channel_sums<T>, channel_normalize<T>, channel_gradient<T>},
    {panel_moments<T>, panel_sums<T>, panel_normalize<T>, panel_gradient<T>},
};

}  // namespace

namespace fusedstep {

extern const KernelTable FUSEDSTEP_TABLE;
const KernelTable FUSEDSTEP_TABLE = {FUSEDSTEP_ISA,
                                     kRules,
                                     sizeof kRules / sizeof kRules[0],
                                     kBatchNorm<float>,
                                     kBatchNorm<double>,
                                     {dropout<float>, dropout<double>}};

}  // namespace fusedstep
