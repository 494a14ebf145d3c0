// One call of an update: takes the arrays out of the containers, and checks all of them before the first is written.
#pragma once

#include <list>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "containers.hpp"
#include "member.hpp"
#include "shared.hpp"
#include "step.hpp"
#include "taken_rows.hpp"

namespace fusedstep {

// A tensor that isn't what it was when it was looked at.
struct OtherMemory {
    std::string message;
    bool ran_python;  // which may have done it
};

// What concerns all parameters of a call.
struct CallOptions {
    bool zero_grads = false;
    py::object copies = py::none();
    std::optional<double> norm;  // of the gradients after scaling, if it is known
    std::optional<double> clip_norm;
    bool skip_nonfinite = false;
    Measure measure = Measure::kNothing;
};

// The member that a parameter belongs to.
struct Assignment {
    py::object known;   // a dict from keys to indices of members, or None: all belong to the only one
    py::object assign;  // the function for other keys
};

class Update {
  public:
    Update(std::vector<Member> members, const Assignment& assignment, const py::object& params, const py::object& grads,
           CallOptions options);

    // Of PyTorch's parameters.
    Update(std::vector<Member> members, const std::vector<TensorGroup>& groups, const py::dict& state,
           const py::object& start, const py::object& resolve, CallOptions options);

    // The norm that was taken or given, or None; and whether the step was skipped.
    py::tuple run();

    Norm norm_of_parameters() const { return step_.norm_of_parameters(); }

  private:
    // Behind the parameter, its gradient and state.
    enum { kCopy = kTemporary, kMaster, kScalars, kTaken = kScalars + kMaxScalars + 1 };

    struct Tensor {
        const Pair* pair;
        int operand;
        const Member* member;
        py::object owner;
        Span span;
    };

    // A gradient of a type that only NumPy can read, in a buffer of the type that is computed in.
    struct Converted {
        std::size_t number;
        py::object from;
        py::array to;
    };

    // State that a parameter gets: all of it, or what its dict lacks.
    struct NewState {
        const Member* member;
        py::object key, dict;  // dict: null if there is none
        py::dict made;
    };

    // What a program waits for.
    struct Direction {
        std::size_t number;
        const Member* member;
        py::object array;
    };

    struct NewScalar {
        char* data;
        int storage;
        double value;
    };

    struct NewCount {
        const Pair* pair;
        const Member* member;
        std::int64_t t;
    };

    void add_all();
    void find_optimizers();
    Member& member_of(const Pair& pair);
    void refuse_keys_of_json();
    void plan();
    void keep_memory_of_tensors();

    void add(const Pair& pair);
    void add_unchanged(const Pair& pair);
    void take_parameter(const Pair& pair, const Name& parameter_name);
    void take_number(const Name& parameter_name, const Pair& pair);
    bool take_gradient(const Pair& pair, const Name& parameter_name, const Name& gradient_name);
    bool take_rows(const Pair& pair, const Name& gradient_name);
    void convert(const Name& name, Shared& gradient, const View& parameter);
    struct Fresh {
        bool state = false, average = false;
    };
    bool take_tensor_parameter(const Pair& pair, const Name& name);
    bool take_tensor_gradient(const Pair& pair, const Name& name);
    Fresh take_tensor_state(const Pair& pair, Member& member, const Name& parameter_name);
    std::int64_t count_tensor_step(const Member& member, bool fresh) const;
    void add_tensor_numbers(const Pair& pair, const Member& member, const Program& program, std::int64_t t);
    Fresh take_state(const Pair& pair, Member& member, const Name& parameter_name);
    void start(const Pair& pair, const Member& member, int state);
    void take_direction(const Pair& pair, const Member& member, int state, const Name& parameter_name);
    void take_scalar(const Pair& pair, const Member& member, int number, const py::object& value);
    void check_state(const Name& name, Shared& own, bool any, const py::object& value, int storage,
                     const Name& parameter_name, const Extents* shape) const;
    bool take_copy(const Pair& pair, const Name& parameter_name);
    std::int64_t count_step(const Pair& pair, Member& member, bool fresh);
    void find_values(const Pair& pair, Member& member) const;
    const Program& program(Member& member, int arithmetic, std::int64_t t, Fresh fresh);
    void add_scalars(const Pair& pair, const Member& member, const Program& program);
    void keep(const Pair& pair, const Member& member, int operand);
    void watch(const Pair& pair, const Member& member, int operand);

    Name name(const char* container, const Pair& pair) const {
        return single_ ? Name{container} : pair.name(container);
    }
    Name state_name(const Pair& pair, const Member& member, py::handle letter) const;
    Name name_of(const Pair& pair, const Member& member, int operand) const;

    template <class Run> void without_gil(const Run& run);
    void take_norm();
    void finish(const Direction& direction);
    void commit();
    void run_in_turn();
    void zero_converted() const;

    std::vector<Member> members_;
    const Assignment assignment_;
    const py::object params_, grads_;
    const CallOptions options_;
    std::vector<py::object> optimizers_;  // of the members, each once
    bool single_ = false;
    Shared shared_[kTaken];  // of the parameter at hand
    View views_[kTaken];
    double scalars_[kMaxScalars];                          // of the parameter at hand
    const Pairs pairs_;                                    // after shared_, of which it may fill the first
    const bool has_tensors_ = false, is_resolved_ = true;  // PyTorch's; gradients are what their memory says
    Step step_;
    std::size_t added_ = 0;
    Program first_program_;  // most calls have no other
    bool has_program_ = false;
    std::optional<Norm> norm_;
    std::list<Program> more_programs_;
    std::list<TakenRows> rows_;
    std::vector<py::object> owners_;
    std::vector<Tensor> tensors_;
    std::vector<py::object> changed_tensors_, zeroed_tensors_;
    bool holds_gil_ = false;
    bool ran_python_ = false;  // since the first array was looked at
    Numbers numbers_;
    std::vector<Converted> converted_;
    std::vector<NewState> new_state_;
    std::vector<NewCount> new_counts_;
    std::vector<NewScalar> new_scalars_;
    std::vector<Direction> directions_;
    std::vector<std::pair<py::object, py::object>> new_lengths_;  // of optimizers
};

// Begins again where another thread came between, before anything was written.
template <class Make> auto run(const Make& make) {
    constexpr int kMostTries = 100;
    for (int tries = 1;; ++tries) {
        try {
            return make();
        } catch (const OtherMemory& found) {
            if (found.ran_python || tries == kMostTries) throw py::value_error(found.message);
        }
    }
}

}  // namespace fusedstep
