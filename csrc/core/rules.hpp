// The rules of the optimizers: their names, states and hyper-parameters, and the program of stages that a step of one
// is. The only place where coefficients are derived.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <string>
#include <vector>

#include "table.hpp"

namespace fusedstep {

constexpr int kMaxHyperparameters = 16;
constexpr int kMaxPasses = 3;
constexpr int kMaxCalls = 12;  // of stages in a program

enum class Limit { kNotNegative, kUpToOne, kBelowOne, kFlag };

struct Hyperparameter {
    const char* name;
    double fallback;  // where none is given
    Limit limit;
};

// Finite, and within the limit.
bool is_within(Limit limit, double value);

// The hyper-parameters that every rule has come first, then the rule's own.
enum { kLearningRate, kWeightDecay, kDecoupled, kScale, kFirstOwn };
using Values = double[kMaxHyperparameters];

// A stage, or two in one loop.
struct Call {
    const Stage* stage;
    const StageFunction* run;  // by arithmetic
    int operand_count, coefficient_count;
    unsigned written;  // operands of the program, a bit each
    std::uint8_t operands[kMaxOperands];
    double coefficients[kMaxCoefficients];
};

// The stages of a step of one array, in the order in which they run over each tile. A pass over the tiles may end in
// sums of squares; then coefficients of the passes after it may depend on these.
class Program {
  public:
    Program() = default;

    // Without stages.
    Program(int arithmetic, int states) : arithmetic(arithmetic), states(states) {}

    // Adds a stage to the last pass.
    void call(const char* stage, std::initializer_list<int> operands, std::initializer_list<double> coefficients);

    // Ends a pass with the sums of squares of operands, and begins another, which starts with the same gradient.
    void end_pass(std::initializer_list<int> squares);

    bool has_finite_coefficients() const;

    struct Pass {
        int first = 0, end = 0;          // calls
        unsigned used = 0, written = 0;  // operands, a bit each
        int square_count = 0;
        std::uint8_t squares[kMaxOperands];
    };

    int arithmetic = kFloat32, states = 0, passes = 1;
    Pass pass[kMaxPasses];
    Call calls[kMaxCalls];
    Values values;
    std::int64_t t = 0;

    // Derives coefficients of the passes after `finished` from its sums of squares, in the order of end_pass.
    void (*between)(Program& program, int finished, const double* squares) = nullptr;

  private:
    void find_operands(Pass& now) const;
};

struct Rule {
    const char* name;
    std::vector<const char*> states;
    std::vector<Hyperparameter> hyperparameters;
    bool counts_steps;
    void (*build)(Program& program);  // from its values and t

    int index_of(const std::string& hyperparameter) const;  // -1 if it has none of that name
};

const std::vector<Rule>& rules();

// Null if there is none of that name.
const Rule* find_rule(const char* name);

// The program of a step; t counts the parameter's steps from 1.
void build(const Rule& rule, int arithmetic, const double* values, std::int64_t t, Program& program);

}  // namespace fusedstep
