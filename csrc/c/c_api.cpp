// The C interface: checks what it is given before anything is written, and lets no exception through.
#include "c_api.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <initializer_list>
#include <memory>
#include <utility>
#include <vector>

#include "batch_norm.hpp"
#include "c_checks.hpp"
#include "dispatch.hpp"
#include "dropout.hpp"
#include "parallel.hpp"
#include "step.hpp"
#include "views.hpp"

namespace fusedstep {
namespace {

static_assert(FUSEDSTEP_COEFFICIENTS >= kMaxCoefficients);

constexpr int kMaxThreads = 1024;                      // as in config.py
constexpr std::int64_t kMaxArrays = INT64_MAX / 1024;  // more would be past the address space
static_assert(sizeof(UpdateItem) <= 1024);

// Updates.

using Rule = double[FUSEDSTEP_COEFFICIENTS];

void set(double* coefficients, std::initializer_list<double> values) {
    require(coefficients != nullptr, FUSEDSTEP_NULL_POINTER);
    std::fill(std::copy(values.begin(), values.end(), coefficients), coefficients + FUSEDSTEP_COEFFICIENTS, 0.0);
}

void sgd_rule(double* rule, double lr) {
    require_finite({lr});
    set(rule, {lr});
}

void momentum_rule(double* rule, double lr, double momentum) {
    require_finite({lr});
    require(momentum >= 0 && momentum <= 1, FUSEDSTEP_OUT_OF_RANGE);
    set(rule, {lr, momentum});
}

void nesterov_rule(double* rule, double lr, double momentum) {
    momentum_rule(rule, lr, momentum);
    set(rule, {lr, momentum, momentum * momentum, (1 + momentum) * lr});
}

void adagrad_rule(double* rule, double lr, double eps, bool inside) {
    require_finite({lr, eps});
    set(rule, {lr, inside ? eps : 0, inside ? 0 : eps});
}

void rmsprop_rule(double* rule, double lr, double decay_rate, double eps, bool inside) {
    require_finite({lr, eps});
    require_below_one({decay_rate});
    set(rule, {lr, decay_rate, 1 - decay_rate, inside ? eps : 0, inside ? 0 : eps});
}

void adamw_rule(double* rule, std::int64_t t, double lr, double beta1, double beta2, double eps, double weight_decay,
                bool inside) {
    require_finite({lr, eps, weight_decay});
    require_below_one({beta1, beta2});
    require(t >= 1, FUSEDSTEP_OUT_OF_RANGE);
    const double steps = static_cast<double>(t), correction = 1 - std::pow(beta2, steps), root = std::sqrt(correction);
    set(rule, {lr * root / (1 - std::pow(beta1, steps)), 1 - beta1, 1 - beta2, inside ? eps * correction : 0,
               inside ? 0 : eps * root, 1 - lr * weight_decay});
}

const UpdateRule& find_rule(const char* name) {
    require(name != nullptr, FUSEDSTEP_NULL_POINTER);
    const KernelTable& kernels = table();
    for (int i = 0; i < kernels.rule_count; ++i)
        if (std::strcmp(kernels.rules[i].name, name) == 0) return kernels.rules[i];
    throw Failure{FUSEDSTEP_UNKNOWN_RULE};
}

template <class T> constexpr int kType = sizeof(T) == sizeof(float) ? int{kFloat32} : int{kFloat64};

// All that a step needs, checked.
template <class T> class Step {
  public:
    Step(const char* name, const double* coefficients, double weight_decay) : rule_(find_rule(name)) {
        require(coefficients != nullptr, FUSEDSTEP_NULL_POINTER);
        std::copy_n(coefficients, rule_.coefficients, coefficients_);
        require(
            std::all_of(coefficients_, coefficients_ + rule_.coefficients, [](double c) { return std::isfinite(c); }),
            FUSEDSTEP_OUT_OF_RANGE);
        require_finite({weight_decay});
        coefficients_[rule_.coefficients] = weight_decay;
    }

    void reserve(std::int64_t count) {
        items_.reserve(static_cast<std::size_t>(count));
        spans_.reserve(static_cast<std::size_t>(count * (2 + rule_.states)));
    }

    int states() const { return rule_.states; }

    void add(std::int64_t n, T* w, const T* g, T* const* state) {
        const std::size_t first = spans_.size();
        spans_.push_back(span(w, n, true));
        spans_.push_back(span(g, n, false));
        for (int i = 0; i < rule_.states; ++i) spans_.push_back(span(state[i], n, true));
        if (n == 0) return;

        UpdateItem item{n, kType<T>, {}, {}};
        for (int i = 0; i < 2 + rule_.states; ++i)
            item.arrays[i] = {const_cast<char*>(spans_[first + i].low), kType<T>, {}};
        for (int i = 0; i < 2 + rule_.states; ++i) {
            for (int j = 0; j < i; ++j) {
                if (!spans_[first + i].meets(spans_[first + j])) continue;
                require(i == kGradient || j == kGradient, FUSEDSTEP_OVERLAP);
                if (item.gradient_copy) continue;
                copies_.emplace_back(new T[static_cast<std::size_t>(n)]);
                item.gradient_copy = copies_.back().get();
            }
        }
        items_.push_back(std::move(item));
    }

    void run() { update(rule_, coefficients_[rule_.coefficients] != 0, coefficients_, items_, any_meet(spans_)); }

  private:
    const UpdateRule& rule_;
    double coefficients_[kMaxCoefficients + 1];
    std::vector<UpdateItem> items_;
    std::vector<Span> spans_;
    std::vector<std::unique_ptr<T[]>> copies_;
};

template <class T> void step_one(const char* name, const Rule& rule, double weight_decay, std::int64_t n, T* w,
                                 const T* g, std::initializer_list<T*> state) {
    Step<T> step(name, rule, weight_decay);
    step.add(n, w, g, state.begin());
    step.run();
}

template <class T> int update_many(const char* name, const double* coefficients, double weight_decay,
                                   std::int64_t count, const std::int64_t* sizes, T* const* w, const T* const* g,
                                   T* const* state) {
    return guarded([&] {
        Step<T> step(name, coefficients, weight_decay);
        require(count >= 0 && count <= kMaxArrays, FUSEDSTEP_BAD_SIZE);
        if (count == 0) return;
        require(sizes && w && g && (state || step.states() == 0), FUSEDSTEP_NULL_POINTER);
        step.reserve(count);
        for (std::int64_t i = 0; i < count; ++i) step.add(sizes[i], w[i], g[i], state + i * step.states());
        step.run();
    });
}

template <class T> int sgd(std::int64_t n, T* w, const T* g, double lr, double weight_decay) {
    return guarded([&] {
        Rule rule;
        sgd_rule(rule, lr);
        step_one<T>("sgd", rule, weight_decay, n, w, g, {});
    });
}

template <class T>
int momentum(std::int64_t n, T* w, const T* g, T* v, double lr, double momentum, double weight_decay) {
    return guarded([&] {
        Rule rule;
        momentum_rule(rule, lr, momentum);
        step_one<T>("momentum", rule, weight_decay, n, w, g, {v});
    });
}

template <class T>
int nesterov(std::int64_t n, T* w, const T* g, T* v, double lr, double momentum, double weight_decay) {
    return guarded([&] {
        Rule rule;
        nesterov_rule(rule, lr, momentum);
        step_one<T>("nesterov", rule, weight_decay, n, w, g, {v});
    });
}

template <class T> int adagrad(std::int64_t n, T* w, const T* g, T* h, double lr, double eps, double weight_decay) {
    return guarded([&] {
        Rule rule;
        adagrad_rule(rule, lr, eps, false);
        step_one<T>("adagrad", rule, weight_decay, n, w, g, {h});
    });
}

template <class T>
int rmsprop(std::int64_t n, T* w, const T* g, T* h, double lr, double decay_rate, double eps, double weight_decay) {
    return guarded([&] {
        Rule rule;
        rmsprop_rule(rule, lr, decay_rate, eps, false);
        step_one<T>("rmsprop", rule, weight_decay, n, w, g, {h});
    });
}

template <class T> int adam(std::int64_t n, T* w, const T* g, T* m, T* v, std::int64_t t, double lr, double beta1,
                            double beta2, double eps, double weight_decay) {
    return guarded([&] {
        Rule rule;
        adamw_rule(rule, t, lr, beta1, beta2, eps, 0, false);
        step_one<T>("adam", rule, weight_decay, n, w, g, {m, v});
    });
}

template <class T> int adamw(std::int64_t n, T* w, const T* g, T* m, T* v, std::int64_t t, double lr, double beta1,
                             double beta2, double eps, double weight_decay) {
    return guarded([&] {
        Rule rule;
        adamw_rule(rule, t, lr, beta1, beta2, eps, weight_decay, false);
        step_one<T>("adamw", rule, 0, n, w, g, {m, v});
    });
}

// Batch normalisation.

Layout layout_of(std::int64_t outer, std::int64_t channels, std::int64_t inner) {
    product(product(outer, channels), inner);
    product(product(outer, inner), channels);
    return {outer, channels, inner};
}

// One number for each channel as doubles.
template <class T> std::vector<double> doubles(const T* values, std::int64_t channels) {
    return {values, values + channels};
}

// Checks all arrays; the result of an element may lie where one of `in_place` does.
template <class T> void check_arrays(std::vector<Span> spans, const T* result, std::initializer_list<const T*> in_place,
                                     std::int64_t size) {
    const Span written = span(result, size, true);
    for (const T* array : in_place) {
        const Span read = span(array, size, false);
        if (array != result) spans.push_back(read);
    }
    spans.push_back(written);
    require_disjoint(spans);
}

template <class T> int batch_norm(std::int64_t outer, std::int64_t channels, std::int64_t inner, const T* x, T* y,
                                  const T* gamma, const T* beta, double eps, double* mean, double* var,
                                  double* inv_std) {
    return guarded([&] {
        const Layout layout = layout_of(outer, channels, inner);
        require_finite({eps});
        require(layout.count() != 0 || channels == 0, FUSEDSTEP_BAD_SIZE);
        check_arrays<T>({span(gamma, channels, false), span(beta, channels, false), span(mean, channels, true),
                         span(var, channels, true), span(inv_std, channels, true)},
                        y, {x}, layout.size());
        if (channels == 0) return;
        batch_norm_training(layout, x, y, doubles(gamma, channels).data(), doubles(beta, channels).data(), eps, mean,
                            var, inv_std);
    });
}

template <class T> int batch_norm_inference(std::int64_t outer, std::int64_t channels, std::int64_t inner, const T* x,
                                            T* y, const T* gamma, const T* beta, const double* mean, const double* var,
                                            double eps) {
    return guarded([&] {
        const Layout layout = layout_of(outer, channels, inner);
        require_finite({eps});
        check_arrays<T>({span(gamma, channels, false), span(beta, channels, false), span(mean, channels, false),
                         span(var, channels, false)},
                        y, {x}, layout.size());
        if (layout.size() == 0) return;
        fusedstep::batch_norm_inference(layout, x, y, doubles(gamma, channels).data(), doubles(beta, channels).data(),
                                        mean, var, eps);
    });
}

template <class T> int batch_norm_backward(std::int64_t outer, std::int64_t channels, std::int64_t inner, const T* x,
                                           const T* dout, T* dx, const T* gamma, const double* mean,
                                           const double* inv_std, T* dgamma, T* dbeta) {
    return guarded([&] {
        const Layout layout = layout_of(outer, channels, inner);
        require(layout.count() != 0 || channels == 0, FUSEDSTEP_BAD_SIZE);
        check_arrays<T>({span(gamma, channels, false), span(mean, channels, false), span(inv_std, channels, false),
                         span(dgamma, channels, true), span(dbeta, channels, true)},
                        dx, {x, dout}, layout.size());
        if (channels == 0) return;
        std::vector<double> dgammas(channels), dbetas(channels);
        fusedstep::batch_norm_backward(layout, x, dout, dx, doubles(gamma, channels).data(), mean, inv_std,
                                       dgammas.data(), dbetas.data());
        const auto rounded = [](double value) { return static_cast<T>(value); };
        std::transform(dgammas.begin(), dgammas.end(), dgamma, rounded);
        std::transform(dbetas.begin(), dbetas.end(), dbeta, rounded);
    });
}

template <class T> int dropout(std::int64_t n, const T* x, T* y, double rate, std::uint64_t seed, std::uint64_t call) {
    return guarded([&] {
        require_below_one({rate});
        check_arrays<T>({}, y, {x}, n);
        if (n != 0) fusedstep::dropout(x, y, kType<T>, n, dropout_mask(rate, seed, call));
    });
}

const char* error_message(int code) {
    switch (code) {
        case FUSEDSTEP_OK:
            return "no error";
        case FUSEDSTEP_NULL_POINTER:
            return "a pointer is null";
        case FUSEDSTEP_BAD_SIZE:
            return "a size is negative or too large, or there are channels without elements";
        case FUSEDSTEP_MISALIGNED:
            return "a pointer is not aligned to its element";
        case FUSEDSTEP_OVERLAP:
            return "an array that is written overlaps another";
        case FUSEDSTEP_OUT_OF_RANGE:
            return "a hyper-parameter, coefficient, step or number of threads is out of range";
        case FUSEDSTEP_UNKNOWN_RULE:
            return "there is no update rule of that name";
        case FUSEDSTEP_OUT_OF_MEMORY:
            return "out of memory";
        case FUSEDSTEP_INTERNAL_ERROR:
            return "internal error";
        default:
            return "not an error code of fusedstep";
    }
}

}  // namespace

const fusedstep_api c_api = {
    FUSEDSTEP_API_VERSION,
    sizeof(fusedstep_api),
    error_message,
    num_threads,
    [](int threads) {
        return guarded([&] {
            require(threads >= 1 && threads <= kMaxThreads, FUSEDSTEP_OUT_OF_RANGE);
            set_num_threads(threads);
        });
    },
    sgd<float>,
    sgd<double>,
    momentum<float>,
    momentum<double>,
    nesterov<float>,
    nesterov<double>,
    adagrad<float>,
    adagrad<double>,
    rmsprop<float>,
    rmsprop<double>,
    adam<float>,
    adam<double>,
    adamw<float>,
    adamw<double>,
    update_many<float>,
    update_many<double>,
    [](double* rule, double lr) { return guarded([&] { sgd_rule(rule, lr); }); },
    [](double* rule, double lr, double momentum) { return guarded([&] { momentum_rule(rule, lr, momentum); }); },
    [](double* rule, double lr, double momentum) { return guarded([&] { nesterov_rule(rule, lr, momentum); }); },
    [](double* rule, double lr, double eps, int inside) {
        return guarded([&] { adagrad_rule(rule, lr, eps, inside != 0); });
    },
    [](double* rule, double lr, double decay_rate, double eps, int inside) {
        return guarded([&] { rmsprop_rule(rule, lr, decay_rate, eps, inside != 0); });
    },
    [](double* rule, std::int64_t t, double lr, double beta1, double beta2, double eps, int inside) {
        return guarded([&] { adamw_rule(rule, t, lr, beta1, beta2, eps, 0, inside != 0); });
    },
    [](double* rule, std::int64_t t, double lr, double beta1, double beta2, double eps, double weight_decay,
       int inside) { return guarded([&] { adamw_rule(rule, t, lr, beta1, beta2, eps, weight_decay, inside != 0); }); },
    batch_norm<float>,
    batch_norm<double>,
    batch_norm_inference<float>,
    batch_norm_inference<double>,
    batch_norm_backward<float>,
    batch_norm_backward<double>,
    dropout<float>,
    dropout<double>,
};

}  // namespace fusedstep
