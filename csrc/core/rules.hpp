// The rules of the optimizers: their names, states and hyper-parameters, and the program of stages that a step of one
// is. The only place where coefficients are derived.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <string>
#include <vector>

#include "table.hpp"

namespace fusedstep {

constexpr int kMaxHyperparameters = 24;
constexpr int kMaxScalars = 2;
constexpr int kMaxPasses = 3;
constexpr int kMaxCalls = 16;  // of stages in a program

enum class Limit { kNotNegative, kUpToOne, kBelowOne, kFlag, kNotNegativeOrOff, kUpToOneOrOff };

constexpr double kOff = -1;  // the value of a hyper-parameter that may be off

struct Hyperparameter {
    const char* name;
    double fallback;  // where none is given
    Limit limit;
};

// Finite, and within the limit.
bool is_within(Limit limit, double value);

// The hyper-parameters that every rule has come first, then the rule's own.
enum {
    kLearningRate,
    kWeightDecay,
    kDecoupled,
    kScale,
    kMaximize,
    kClipValue,
    kAverage,
    kCautiousDecay,
    kMaxLearningRate,
    kDecayAfter,
    kFirstOwn
};
using Values = double[kMaxHyperparameters];

// A state array of a rule.
struct State {
    // start: the hyper-parameter that all elements are at first; or "parameter", of which it is a copy then; or null,
    // for zeros. Or kMadeEachStep, if it isn't kept between steps.
    State(const char* name, const char* start = nullptr) : name(name), start(start) {}

    enum Shape { kWhole, kRows, kColumns };

    // Moments of rows or columns, in place of those of elements (factors.hpp).
    State(const char* name, Shape shape) : name(name), start(nullptr), shape(shape) {}

    const char *name, *start;
    Shape shape = kWhole;
};

inline constexpr char kMadeEachStep[] = "";

// A number that a parameter has besides its state arrays.
struct Scalar {
    const char* name;
    double start;
};

constexpr int kColumnRoots = kState + 1;  // in place of the second state, if that has moments of columns

// Rows of a tile that exist within it alone: the rule's own, and the parameter before the rule.
enum { kUpdate = kTemporary, kBefore };

// A stage, or two in one loop.
struct Call {
    const Stage* stage;
    const StageFunction* run;  // by arithmetic
    int operand_count, coefficient_count;
    unsigned written;  // operands of the program, a bit each
    bool clips;        // scales by the coefficient that follows from the norm of all gradients
    bool takes_roots;  // of factored moments: of columns as an operand, of a row as its own first coefficient
    std::uint8_t operands[kMaxOperands];
    double coefficients[kMaxCoefficients];

    // Its own first coefficient, before which there may be that of another stage in the same loop.
    int first_own() const { return run == stage->run ? 0 : 1; }
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

    // Ends a pass with the sums of squares of operands, and begins another, which starts with the same gradient and
    // parameter.
    void end_pass(std::initializer_list<int> squares);

    // Ends the first pass, which stores this operand alone. The caller of the step changes it before the next pass.
    void end_pass_for_caller(int stored);

    // Sets a coefficient of a stage in the last pass.
    void set(const char* stage, int coefficient, double value);

    bool waits_for_caller() const { return waits_; }
    bool has_finite_coefficients() const;
    bool uses_gradient() const;

    // Sets the factor of gradients that follows from the norm of all of them, once that is known.
    void set_clip(double factor);

    struct Pass {
        int first = 0, end = 0;          // calls
        unsigned used = 0, written = 0;  // operands, a bit each
        unsigned unstored = 0;           // that are changed in scratch alone
        int square_count = 0;
        std::uint8_t squares[kMaxOperands];
    };

    int arithmetic = kFloat32, passes = 1;
    int states = 0;     // of the rule, and the average
    int unclipped = 0;  // calls before the norm of all gradients is taken
    Pass pass[kMaxPasses];
    Call calls[kMaxCalls];
    Values values;
    std::int64_t t = 0, size = 0;  // of the parameter's steps, its elements; the size is known to `between` alone
    double own_decay = 0;          // weight_decay that is the rule's own affair
    bool first = true;             // whether it is the first step of the state

    // Of the parameter: as they were, and as the step leaves them. Where they are stored as float32, each operation of
    // theirs is rounded to that, as PyTorch's tensors of one number are.
    double old_scalars[kMaxScalars], scalars[kMaxScalars];
    bool has_single_scalars = false;

    double rounded(double scalar) const { return has_single_scalars ? static_cast<float>(scalar) : scalar; }

    // The first two states are second moments of rows and columns. Before the first pass they move at this rate to the
    // means of squares of the gradient, as it is after that pass, plus a number. Stages then read roots in their place:
    // of rows divided by their mean, which is at least the floor, and of columns. The first pass ends in the sums of
    // squares of the parameter and of the update, which is the gradient divided by the roots, at least the floor.
    struct Factored {
        bool is_set = false;
        double rate = 0, added = 0, floor = 0;
    } factored;

    // Derives coefficients of the passes after `finished` from its sums of squares, in the order of end_pass.
    void (*between)(Program& program, int finished, const double* squares) = nullptr;

    // Makes the last call one that takes an average too; false if there is no such stage.
    bool add_average(int mean, double coefficient);

    void begin();  // a program without stages

  private:
    void find_operands(Pass& now) const;
    void begin_next_pass(bool with_decay);

    bool waits_ = false;
};

struct Rule {
    const char* name;
    std::vector<State> states;
    std::vector<Hyperparameter> hyperparameters;
    bool counts_steps;
    void (*build)(Program& program);  // from its values, t and scalars
    std::vector<Scalar> scalars = {};
    bool decays = false;  // decoupled decay is part of the rule

    int index_of(const std::string& hyperparameter) const;  // -1 if it has none of that name
    bool is_factored() const { return !states.empty() && states[0].shape != State::kWhole; }
};

const std::vector<Rule>& rules();

// Not rules of optimizers: w += scale g; w and its only state change places, scale aside; and w += weight (z - w),
// where the weight may be any number.
const Rule& accumulation();
const Rule& exchange();
const Rule& interpolation();

// A rule that needs its caller's help (Program::end_pass_for_caller).
const Rule& muon();

// Null if there is none of that name.
const Rule* find_rule(const char* name);

// The factor that clips gradients of a norm to another, at most 1: as PyTorch, 0 for an infinite norm, NaN for NaN.
double clip_factor(double clip_norm, double norm);

// What happens to gradients between their scale and the rule.
struct Clipping {
    bool measures, clips;  // by taking their norm; by set_clip
};

// The program of a step; t counts the parameter's steps from 1. scalars: null for those before the first step. is_new:
// whether the state is, whatever t is.
void build(const Rule& rule, int arithmetic, const double* values, std::int64_t t, Clipping clipping, Program& program,
           const double* scalars = nullptr, bool is_new = false);

}  // namespace fusedstep
