// Hashes of all that a step does in its one pass: options, storage types, rounding, copies, zeros, rows, norms.
#pragma once

#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

#include "dispatch.hpp"
#include "hashing.hpp"
#include "rules.hpp"
#include "step.hpp"

namespace {

constexpr const char* kStorageNames[] = {"float32", "float64", "float16", "bfloat16"};

// A matrix, stored in any way.
class Stored {
  public:
    static constexpr int64_t kColumns = 13;

    Stored(int64_t rows, int storage, std::uint64_t seed, bool positive = false, int64_t columns = kColumns)
        : storage_(storage),
          shape_{static_cast<fusedstep::Extent>(rows), static_cast<fusedstep::Extent>(columns)},
          strides_{static_cast<fusedstep::Extent>(fusedstep::size_of(storage) * columns),
                   static_cast<fusedstep::Extent>(fusedstep::size_of(storage))},
          bytes_(static_cast<std::size_t>(rows * columns * fusedstep::size_of(storage))) {
        std::vector<double> values = numbers<double>(rows * columns, seed);
        if (positive) values = magnitudes(values);
        fusedstep::table().store[storage][fusedstep::kFloat64](rows * columns, values.data(), bytes_.data());
    }

    fusedstep::View view() { return {bytes_.data(), storage_, 2, shape_, strides_}; }

    void add_to(Hash& hash) const {
        std::vector<double> values(static_cast<std::size_t>(shape_[0] * shape_[1]));
        fusedstep::table().load[storage_][fusedstep::kFloat64](shape_[0] * shape_[1], bytes_.data(), values.data());
        hash.add(values);
    }

  private:
    int storage_;
    fusedstep::Extent shape_[2], strides_[2];
    std::vector<char> bytes_;
};

struct OptionCase {
    const char* name;
    double decoupled, clip_norm, average;
    bool stochastic, narrow_state;
    int64_t row_step;  // one row of so many has a gradient
};

constexpr OptionCase kOptionCases[] = {{"first average", 0, 0.5, 0, false, false, 1},
                                       {"average", 1, 1e30, 0.9, false, false, 1},
                                       {"stochastic", 1, 0.5, 0.9, true, true, 1},
                                       {"rows", 0, 0.5, 0.9, true, false, 3}};

// Two steps of arrays of several sizes, at t 1, as for print_rules.
void hash_options(Hash& hash, const fusedstep::Rule& rule, int storage, const OptionCase& given) {
    using namespace fusedstep;
    const int arithmetic = arithmetic_of(storage), own_states = static_cast<int>(rule.states.size());
    Values values;
    for (std::size_t i = 0; i < rule.hyperparameters.size(); ++i) values[i] = rule.hyperparameters[i].fallback;
    values[kWeightDecay] = 0.1;
    values[kDecoupled] = given.decoupled;
    values[kScale] = 0.7;
    values[kMaximize] = 1;
    values[kClipValue] = 0.3;
    values[kAverage] = given.average;
    Program program;
    build(rule, arithmetic, values, 1, {true, true}, program);

    struct Parameter {
        std::vector<Stored> arrays;  // the parameter, a place for its gradient, state, average, copy
        std::vector<int64_t> rows;
    };
    std::vector<Parameter> parameters;
    if (rule.is_factored() && given.row_step != 1) return;  // it needs all rows
    for (const int64_t rows : {1, 5, 79, 3001}) {
        Parameter made;
        made.arrays.emplace_back(rows, storage, 1);
        made.arrays.emplace_back(0, storage, 2);
        const int state_storage = given.narrow_state && arithmetic == kFloat32 ? int{kBFloat16} : arithmetic;
        for (int i = 0; i < own_states; ++i) {
            const State::Shape shape = rule.states[static_cast<std::size_t>(i)].shape;
            made.arrays.emplace_back(shape == State::kColumns ? 1 : rows, state_storage, 3 + i, true,
                                     shape == State::kRows ? 1 : Stored::kColumns);
        }
        made.arrays.emplace_back(rows, arithmetic, 20);
        made.arrays.emplace_back(rows, rows % 2 == 0 ? kFloat32 : rows == 79 ? kFloat16 : kBFloat16, 21);
        for (int64_t row = 0; row < rows; row += given.row_step) made.rows.push_back(row);
        parameters.push_back(std::move(made));
    }
    for (std::uint64_t update = 1; update <= 2; ++update) {
        Step step(Measure::kGradients);
        std::uint32_t number = 0;
        for (Parameter& parameter : parameters) {
            const auto rows = static_cast<int64_t>(parameter.rows.size());
            parameter.arrays[kGradient] = Stored(rows, static_cast<int>(number + update) % kStorages, 30 + update);
            std::vector<View> views;
            for (Stored& array : parameter.arrays) views.push_back(array.view());
            const RowNumbers numbers = {parameter.rows.data(), rows};
            Around around;
            around.copy = &views.back();
            around.zeroes_gradient = number % 2 == 0;
            around.randomness = {0x0123456789abcdef, update, number++, 0};
            if (given.stochastic && storage != arithmetic) around.stochastic |= 1u << kParameter;
            for (int i = 0; i < own_states; ++i)
                if (views[static_cast<std::size_t>(kState + i)].storage != arithmetic)
                    around.stochastic |= 1u << (kState + i);
            if (given.row_step != 1) around.rows = &numbers;
            step.add(program, views.data(), around);
        }
        step.plan();
        const Norm norm = step.norm_of_gradients();
        hash.add(norm.value);
        program.set_clip(clip_factor(given.clip_norm, norm.value));
        step.run();
        for (const Parameter& parameter : parameters)
            for (const Stored& array : parameter.arrays) array.add_to(hash);
    }
}

void hash_sums(Hash& hash, int storage, int gradient_storage) {
    using namespace fusedstep;
    Values values;
    const std::vector<Hyperparameter>& known = accumulation().hyperparameters;
    for (std::size_t i = 0; i < known.size(); ++i) values[i] = known[i].fallback;
    values[kScale] = 0.7;
    Program program;
    build(accumulation(), arithmetic_of(storage), values, 1, {}, program);
    Stored sums(3001, storage, 1), gradient(3001, gradient_storage, 2);
    const View views[] = {sums.view(), gradient.view()};
    Step step(Measure::kParameters);
    step.add(program, views);
    step.plan();
    step.run();
    sums.add_to(hash);
    hash.add(step.norm_of_parameters().value);
}

void print_options() {
    for (const fusedstep::Rule& rule : fusedstep::rules())
        for (int storage = 0; storage < fusedstep::kStorages; ++storage)
            for (const OptionCase& each : kOptionCases)
                print(std::string("options ") + rule.name + " " + kStorageNames[storage], each.name,
                      [&](Hash& hash) { hash_options(hash, rule, storage, each); });
    for (int storage = 0; storage < fusedstep::kStorages; ++storage)
        for (int gradient = 0; gradient < fusedstep::kStorages; ++gradient)
            print(std::string("accumulate ") + kStorageNames[storage], kStorageNames[gradient],
                  [&](Hash& hash) { hash_sums(hash, storage, gradient); });
}

}  // namespace
