// Batch normalisation: finds the order of the axes in memory, makes what does not fit it fit.
#include "batch_norm.hpp"

#include <algorithm>
#include <cstring>
#include <memory>
#include <optional>
#include <type_traits>
#include <utility>
#include <vector>

#include "bindings.hpp"
#include "float_mode.hpp"
#include "settings.hpp"
#include "table.hpp"

namespace fusedstep {
namespace {

constexpr Hyperparameter kEps = {"eps", 0, Limit::kNotNegative};

using Doubles = py::array_t<double, py::array::c_style | py::array::forcecast>;

// As checked_axis, which it asks about anything but an int of 64 bits.
py::ssize_t axis_of(const py::object& given) {
    int overflow = 0;
    if (PyLong_CheckExact(given.ptr())) {
        const long long axis = PyLong_AsLongLongAndOverflow(given.ptr(), &overflow);
        if (overflow == 0) return axis;
    }
    return py::module_::import("fusedstep._limits").attr("checked_axis")(given).cast<py::ssize_t>();
}

// The input, and how it divides by channel; x is a copy of what was given if that has gaps.
struct Input {
    py::array given, x;
    Layout layout;

    Input(const char* name, const py::object& object, const py::object& axis_given)
        : given(as_native({name}, object)), x(given) {
        const py::ssize_t channel_axis = axis_of(axis_given);
        const py::ssize_t axis = channel_axis < 0 ? channel_axis + x.ndim() : channel_axis;
        if (axis < 0 || axis >= x.ndim())
            throw py::value_error("channel_axis is " + std::to_string(channel_axis) + ", " + name + " has shape " +
                                  text(x.attr("shape")));
        std::vector<int> order;
        if (!is_c_contiguous(x)) {
            const View view = view_of(x);
            order = memory_order(view);
            if (!is_aligned(view) ||
                !is_dense(permuted(view.shape, order), permuted(view.strides, order), size_of(view.storage))) {
                x = numpy().attr("array")(x, py::arg("order") = "C");
                order.clear();
            }
        }
        layout = {1, x.shape(axis), 1};
        bool before = true;
        for (py::ssize_t d = 0; d < x.ndim(); ++d) {
            const py::ssize_t at = order.empty() ? d : order[d];
            if (at == axis)
                before = false;
            else
                (before ? layout.outer : layout.inner) *= x.shape(at);
        }
    }

    void require_elements() const {
        if (layout.count() == 0 && layout.channels != 0)
            throw py::value_error("x has shape " + text(x.attr("shape")) +
                                  ", which leaves no elements to take the mean of");
    }
};

// One number for each channel, as doubles; a copy, because out may share the array's memory.
class PerChannel {
  public:
    PerChannel(const char* name, const py::object& given, const Layout& layout)
        : values_(new double[static_cast<std::size_t>(layout.channels)]) {
        py::array array = array_of_layer({name}, given);
        if (!array) array = array_of_numbers({name}, given);
        if (array.ndim() != 1 || array.shape(0) != layout.channels)
            throw py::value_error(std::string(name) + " has shape " + text(array.attr("shape")) + ", x has " +
                                  std::to_string(layout.channels) + " channels");
        const FloatMode mode;
        if (native_type(array) == kNoStorage) {
            if (std::strchr("fiu", array.dtype().kind()) == nullptr)
                throw py::type_error(std::string(name) + " has dtype " + text(array.dtype()) + ", expected floats");
            array = Doubles(array);
        } else
            array_ = array;
        if (native_type(array) == kFloat32)
            copy<float>(array);
        else
            copy<double>(array);
    }

    const double* data() const { return values_.get(); }

    // The caller's memory; null if it's of another type, or no array.
    const py::array& array() const { return array_; }

  private:
    template <class T> void copy(const py::array& array) {
        const auto copy_with = [&, from = address(array), to = values_.get()](auto stride) {
            for (py::ssize_t c = 0, channels = array.shape(0); c < channels; ++c) {
                T value;
                std::memcpy(&value, from + c * stride, sizeof value);  // it may be misaligned
                to[c] = static_cast<double>(value);
            }
        };
        constexpr std::integral_constant<py::ssize_t, sizeof(T)> contiguous;
        if (array.strides(0) == contiguous)
            copy_with(contiguous);  // in vectors
        else
            copy_with(array.strides(0));
    }

    std::unique_ptr<double[]> values_;
    py::array array_ = no_array();
};

// running = decay running + (1 - decay) now
class Running {
  public:
    Running(const char* name, const py::object& given, const Layout& layout) : name_(name) {
        if (given.is_none()) return;
        array_ = as_native({name}, given);
        require_writeable({name}, array_);
        if (array_.ndim() != 1 || array_.shape(0) != layout.channels)
            throw py::value_error(std::string(name) + " has shape " + text(array_.attr("shape")) + ", x has " +
                                  std::to_string(layout.channels) + " channels");
        require_distinct_elements({name}, view_of(array_));
    }

    // ValueError if it shares memory with another array, which may be null.
    void require_apart(const char* other_name, const py::array& other) const {
        if (array_ && other && share_memory(view_of(array_), view_of(other)))
            throw py::value_error(std::string(name_) + " shares memory with " + other_name);
    }

    const py::array& array() const { return array_; }

    void update(const double* now, double factor, double decay) {
        if (!array_) return;
        if (native_type(array_) == kFloat32)
            update_as<float>(now, factor, decay);
        else
            update_as<double>(now, factor, decay);
    }

  private:
    template <class T> void update_as(const double* now, double factor, double decay) {
        for (py::ssize_t c = 0; c < array_.shape(0); ++c) {
            T running;
            std::memcpy(&running, array_.data(c), sizeof running);  // it may be misaligned
            running = static_cast<T>(decay * running + (1 - decay) * (now[c] * factor));
            std::memcpy(array_.mutable_data(c), &running, sizeof running);
        }
    }

    const char* name_;
    py::array array_ = no_array();
};

// Calls f(T()) with the type of an array, without the GIL.
template <class F> void with_type(const py::array& a, F f) {
    const int type = native_type(a);
    const WithoutGil released;
    if (type == kFloat32)
        f(float());
    else
        f(double());
}

template <class T> const T* elements(const py::array& a) {
    return reinterpret_cast<const T*>(address(a));
}

py::tuple training(const py::object& given, const py::object& gamma_given, const py::object& beta_given,
                   const py::object& eps_given, const py::object& channel_axis, const py::object& out,
                   const py::object& running_mean, const py::object& running_var, double decay, bool unbiased) {
    const double eps = checked_value(kEps, eps_given);
    const Input input("x", given, channel_axis);
    input.require_elements();
    const Layout& layout = input.layout;
    const PerChannel gamma("gamma", gamma_given, layout), beta("beta", beta_given, layout);
    Running mean_so_far("running_mean", running_mean, layout), var_so_far("running_var", running_var, layout);
    Output y(input.x, out, {&input.x});
    var_so_far.require_apart("running_mean", mean_so_far.array());
    for (const Running* running : {&mean_so_far, &var_so_far}) {
        running->require_apart("x", input.given);
        running->require_apart("gamma", gamma.array());
        running->require_apart("beta", beta.array());
        running->require_apart("out", y.target());
    }
    Doubles mean(layout.channels), inv_std(layout.channels);
    const std::unique_ptr<double[]> var(new double[static_cast<std::size_t>(layout.channels)]);
    double *mean_data = mean.mutable_data(), *inv_std_data = inv_std.mutable_data();
    with_type(input.x, [&](auto zero) {
        using T = decltype(zero);
        batch_norm_training(layout, elements<T>(input.x), y.data<T>(), gamma.data(), beta.data(), eps, mean_data,
                            var.get(), inv_std_data);
    });
    const FloatMode mode;
    const double count = static_cast<double>(layout.count());
    mean_so_far.update(mean_data, 1, decay);
    var_so_far.update(var.get(), unbiased && count > 1 ? count / (count - 1) : 1, decay);
    return py::make_tuple(y.finish(), mean, inv_std);
}

py::object inference(const py::object& given, const py::object& gamma_given, const py::object& beta_given,
                     const py::object& mean_given, const py::object& var_given, const py::object& eps_given,
                     const py::object& channel_axis, const py::object& out, const py::object& mean_rest_given) {
    const double eps = checked_value(kEps, eps_given);
    const Input input("x", given, channel_axis);
    const PerChannel gamma("gamma", gamma_given, input.layout), beta("beta", beta_given, input.layout),
        mean("mean", mean_given, input.layout), var("var", var_given, input.layout);
    std::optional<PerChannel> mean_rest;
    if (!mean_rest_given.is_none()) mean_rest.emplace("mean_rest", mean_rest_given, input.layout);
    Output y(input.x, out, {&input.x});
    with_type(input.x, [&](auto zero) {
        using T = decltype(zero);
        batch_norm_inference(input.layout, elements<T>(input.x), y.data<T>(), gamma.data(), beta.data(), mean.data(),
                             var.data(), eps, mean_rest ? mean_rest->data() : nullptr);
    });
    return y.finish();
}

py::array rounded_to_float(const Doubles& values) {
    py::array_t<float> rounded(values.shape(0));
    const FloatMode mode;
    std::copy_n(values.data(), values.shape(0), rounded.mutable_data());
    return rounded;
}

// dout in the order of x.
py::array ordered_dout(const Input& input, const py::object& given) {
    py::array dout = as_native({"dout"}, given);
    require_same_shape({"dout"}, dout, {"x"}, input.x);
    if (same_order(input.x, dout)) return dout;
    const py::array copy = result_like(input.x);
    const FloatMode mode;  // it may round
    numpy().attr("copyto")(copy, dout);
    return copy;
}

py::tuple backward(const py::object& dout_given, const py::object& given, const py::object& gamma_given,
                   const py::object& mean_given, const py::object& inv_std_given, const py::object& channel_axis,
                   const py::object& out) {
    const Input input("x", given, channel_axis);
    input.require_elements();
    const Layout& layout = input.layout;
    const py::array dout = ordered_dout(input, dout_given);
    const PerChannel gamma("gamma", gamma_given, layout), mean("mean", mean_given, layout),
        inv_std("inv_std", inv_std_given, layout);
    Output dx(input.x, out, {&input.x, &dout});
    Doubles dgamma(layout.channels), dbeta(layout.channels);
    double *dgamma_data = dgamma.mutable_data(), *dbeta_data = dbeta.mutable_data();
    with_type(input.x, [&](auto zero) {
        using T = decltype(zero);
        batch_norm_backward(layout, elements<T>(input.x), elements<T>(dout), dx.data<T>(), gamma.data(), mean.data(),
                            inv_std.data(), dgamma_data, dbeta_data);
    });
    if (native_type(input.x) == kFloat64) return py::make_tuple(dx.finish(), dgamma, dbeta);
    return py::make_tuple(dx.finish(), rounded_to_float(dgamma), rounded_to_float(dbeta));
}

// Of a part of the data, for those who merge it with others; a part may be empty.
py::tuple moments(const py::object& given, const py::object& eps_given, const py::object& channel_axis) {
    const double eps = checked_value(kEps, eps_given);
    const Input input("x", given, channel_axis);
    const Layout& layout = input.layout;
    Doubles mean(layout.channels), rest(layout.channels), m2(layout.channels);
    double* const results[] = {mean.mutable_data(), rest.mutable_data(), m2.mutable_data()};
    if (layout.count() == 0)
        for (double* const result : results) std::fill_n(result, layout.channels, 0.0);
    else
        with_type(input.x, [&](auto zero) {
            batch_norm_moments(layout, elements<decltype(zero)>(input.x), eps, results[0], results[1], results[2]);
        });
    return py::make_tuple(mean, rest, m2, layout.count());
}

py::tuple sums(const py::object& dout_given, const py::object& given, const py::object& mean_given,
               const py::object& channel_axis) {
    const Input input("x", given, channel_axis);
    const Layout& layout = input.layout;
    const py::array dout = ordered_dout(input, dout_given);
    const PerChannel mean("mean", mean_given, layout);
    Doubles dots(layout.channels), sums(layout.channels);
    double* const results[] = {dots.mutable_data(), sums.mutable_data()};
    if (layout.count() == 0)
        for (double* const result : results) std::fill_n(result, layout.channels, 0.0);
    else
        with_type(input.x, [&](auto zero) {
            using T = decltype(zero);
            batch_norm_sums(layout, elements<T>(input.x), elements<T>(dout), mean.data(), results[0], results[1]);
        });
    return py::make_tuple(dots, sums);
}

py::object gradient(const py::object& dout_given, const py::object& given, const py::object& gamma_given,
                    const py::object& mean_given, const py::object& inv_std_given, const py::object& dgamma_given,
                    const py::object& dbeta_given, double count, const py::object& channel_axis,
                    const py::object& out) {
    const Input input("x", given, channel_axis);
    const Layout& layout = input.layout;
    const py::array dout = ordered_dout(input, dout_given);
    const PerChannel gamma("gamma", gamma_given, layout), mean("mean", mean_given, layout),
        inv_std("inv_std", inv_std_given, layout), dgamma("dgamma", dgamma_given, layout),
        dbeta("dbeta", dbeta_given, layout);
    Output dx(input.x, out, {&input.x, &dout});
    with_type(input.x, [&](auto zero) {
        using T = decltype(zero);
        batch_norm_gradient(layout, elements<T>(input.x), elements<T>(dout), dx.data<T>(), gamma.data(), mean.data(),
                            inv_std.data(), dgamma.data(), dbeta.data(), count);
    });
    return dx.finish();
}

}  // namespace

void bind_batch_norm(py::module_& module) {
    using namespace pybind11::literals;
    module.def("batch_norm", &training, "x"_a, "gamma"_a, "beta"_a, "eps"_a, "channel_axis"_a, "out"_a,
               "running_mean"_a, "running_var"_a, "decay"_a, "unbiased"_a);
    module.def("batch_norm_inference", &inference, "x"_a, "gamma"_a, "beta"_a, "mean"_a, "var"_a, "eps"_a,
               "channel_axis"_a, "out"_a, "mean_rest"_a = py::none());
    module.def("batch_norm_moments", &moments, "x"_a, "eps"_a, "channel_axis"_a);
    module.def("batch_norm_sums", &sums, "dout"_a, "x"_a, "mean"_a, "channel_axis"_a);
    module.def("batch_norm_gradient", &gradient, "dout"_a, "x"_a, "gamma"_a, "mean"_a, "inv_std"_a, "dgamma"_a,
               "dbeta"_a, "count"_a, "channel_axis"_a, "out"_a);
    module.def("batch_norm_backward", &backward, "dout"_a, "x"_a, "gamma"_a, "mean"_a, "inv_std"_a, "channel_axis"_a,
               "out"_a);
}

}  // namespace fusedstep
