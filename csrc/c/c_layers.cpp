// Batch normalisation and dropout for the C interface.
#include <algorithm>
#include <initializer_list>
#include <vector>

#include "batch_norm.hpp"
#include "c_checks.hpp"
#include "c_functions.hpp"
#include "dropout.hpp"
#include "float_mode.hpp"
#include "rules.hpp"

namespace fusedstep {
namespace {

template <class Call> Call checked_call(const Call* given) {
    Call call{};
    read_sized_struct(given, sizeof(Call), "call", call);
    return call;
}

// float32 or float64.
int layer_type(std::int64_t type) {
    const int storage = storage_of(type, "type");
    require(storage < kArithmetics, FUSEDSTEP_UNSUPPORTED_TYPE, "type");
    return storage;
}

template <class Call> Layout layout_of(const Call& call) {
    require(call.outer >= 0, FUSEDSTEP_BAD_SIZE, "outer");
    require(call.channels >= 0, FUSEDSTEP_BAD_SIZE, "channels");
    require(call.inner >= 0, FUSEDSTEP_BAD_SIZE, "inner");
    product(call.outer, call.inner, "inner");
    product(product(call.outer, call.channels, "channels"), call.inner, "inner");
    return {call.outer, call.channels, call.inner};
}

void require_elements(const Layout& layout) {
    require(layout.count() != 0 || layout.channels == 0, FUSEDSTEP_BAD_SIZE, layout.outer == 0 ? "outer" : "inner");
}

struct Operand {
    const char* field;
    const void* array;
    std::int64_t n, item_size;
    bool written;
};

// The result, which is the last operand, may be the same memory as one of the first `in_place` operands.
void check_operands(std::initializer_list<Operand> operands, std::size_t in_place) {
    std::vector<Span> spans;
    for (const Operand& each : operands)
        spans.push_back(checked_span(each.array, each.n, each.item_size, each.written, each.field));
    const Operand& result = operands.end()[-1];
    for (std::size_t i = 0; i < spans.size(); ++i) {
        for (std::size_t j = 0; j < i; ++j) {
            if (!(spans[i].written || spans[j].written) || !spans[i].overlaps(spans[j])) continue;
            const bool same = i == spans.size() - 1 && j < in_place && operands.begin()[j].array == result.array;
            require(same, FUSEDSTEP_OVERLAP, operands.begin()[i].field);
        }
    }
}

void require_eps(double eps) {
    require(is_within(Limit::kNotNegative, eps), FUSEDSTEP_OUT_OF_RANGE, "eps");
}

// Calls run with a T for the type, in the mode of the kernels: numbers of a channel are converted there.
template <class Run> void with_type(int type, const Run& run) {
    const FloatMode mode;
    if (type == kFloat32)
        run(float());
    else
        run(double());
}

// One number for each channel as doubles.
template <class T> std::vector<double> doubles(const void* given, std::int64_t channels) {
    const T* const values = static_cast<const T*>(given);
    return {values, values + channels};
}

}  // namespace

int batch_norm_training(const fusedstep_batch_norm_training* given, fusedstep_error* error) noexcept {
    return guarded(error, [&] {
        const fusedstep_batch_norm_training call = checked_call(given);
        const int type = layer_type(call.type);
        const Layout layout = layout_of(call);
        require_elements(layout);
        require_eps(call.eps);
        const std::int64_t item = size_of(type), size = layout.size(), channels = layout.channels;
        check_operands({{"x", call.x, size, item, false},
                        {"gamma", call.gamma, channels, item, false},
                        {"beta", call.beta, channels, item, false},
                        {"mean", call.mean, channels, sizeof(double), true},
                        {"var", call.var, channels, sizeof(double), true},
                        {"inv_std", call.inv_std, channels, sizeof(double), true},
                        {"y", call.y, size, item, true}},
                       1);
        if (channels == 0) return;
        with_type(type, [&](auto zero) {
            using T = decltype(zero);
            fusedstep::batch_norm_training<T>(
                layout, static_cast<const T*>(call.x), static_cast<T*>(call.y), doubles<T>(call.gamma, channels).data(),
                doubles<T>(call.beta, channels).data(), call.eps, call.mean, call.var, call.inv_std);
        });
    });
}

int batch_norm_inference(const fusedstep_batch_norm_inference* given, fusedstep_error* error) noexcept {
    return guarded(error, [&] {
        const fusedstep_batch_norm_inference call = checked_call(given);
        const int type = layer_type(call.type);
        const Layout layout = layout_of(call);
        require_eps(call.eps);
        const std::int64_t item = size_of(type), size = layout.size(), channels = layout.channels;
        check_operands({{"x", call.x, size, item, false},
                        {"gamma", call.gamma, channels, item, false},
                        {"beta", call.beta, channels, item, false},
                        {"mean", call.mean, channels, sizeof(double), false},
                        {"var", call.var, channels, sizeof(double), false},
                        {"y", call.y, size, item, true}},
                       1);
        if (size == 0) return;
        with_type(type, [&](auto zero) {
            using T = decltype(zero);
            fusedstep::batch_norm_inference<T>(layout, static_cast<const T*>(call.x), static_cast<T*>(call.y),
                                               doubles<T>(call.gamma, channels).data(),
                                               doubles<T>(call.beta, channels).data(), call.mean, call.var, call.eps);
        });
    });
}

int batch_norm_backward(const fusedstep_batch_norm_backward* given, fusedstep_error* error) noexcept {
    return guarded(error, [&] {
        const fusedstep_batch_norm_backward call = checked_call(given);
        const int type = layer_type(call.type);
        const Layout layout = layout_of(call);
        require_elements(layout);
        const std::int64_t item = size_of(type), size = layout.size(), channels = layout.channels;
        check_operands({{"x", call.x, size, item, false},
                        {"dout", call.dout, size, item, false},
                        {"gamma", call.gamma, channels, item, false},
                        {"mean", call.mean, channels, sizeof(double), false},
                        {"inv_std", call.inv_std, channels, sizeof(double), false},
                        {"dgamma", call.dgamma, channels, item, true},
                        {"dbeta", call.dbeta, channels, item, true},
                        {"dx", call.dx, size, item, true}},
                       2);
        if (channels == 0) return;
        with_type(type, [&](auto zero) {
            using T = decltype(zero);
            std::vector<double> dgamma(static_cast<std::size_t>(channels)), dbeta(dgamma);
            fusedstep::batch_norm_backward<T>(layout, static_cast<const T*>(call.x), static_cast<const T*>(call.dout),
                                              static_cast<T*>(call.dx), doubles<T>(call.gamma, channels).data(),
                                              call.mean, call.inv_std, dgamma.data(), dbeta.data());
            const auto rounded = [](double value) { return static_cast<T>(value); };
            std::transform(dgamma.begin(), dgamma.end(), static_cast<T*>(call.dgamma), rounded);
            std::transform(dbeta.begin(), dbeta.end(), static_cast<T*>(call.dbeta), rounded);
        });
    });
}

int dropout(const fusedstep_dropout* given, fusedstep_error* error) noexcept {
    return guarded(error, [&] {
        const fusedstep_dropout call = checked_call(given);
        const int type = layer_type(call.type);
        require(is_within(Limit::kBelowOne, call.rate), FUSEDSTEP_OUT_OF_RANGE, "rate");
        require(call.n >= 0, FUSEDSTEP_BAD_SIZE, "n");
        check_operands({{"x", call.x, call.n, size_of(type), false}, {"y", call.y, call.n, size_of(type), true}}, 1);
        if (call.n != 0)
            fusedstep::dropout(call.x, call.y, type, call.n, dropout_mask(call.rate, call.seed, call.call));
    });
}

}  // namespace fusedstep
