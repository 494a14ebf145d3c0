// How an update takes and checks the arrays of a parameter.
#include <algorithm>
#include <cstring>

#include "strided.hpp"
#include "update.hpp"

namespace fusedstep {
namespace {

// Bits of bfloat16 have no type of NumPy: np.load makes V2 of them, and others uint16.
std::string advice(const std::string& dtype) {
    const bool may_be_bits = dtype == "uint16" || dtype == "|V2";
    return may_be_bits ? "; bits of bfloat16 are numbers after .view(ml_dtypes.bfloat16)" : "";
}

void require_float(const Name& name, const Shared& array) {
    if (array.view.storage == kNoStorage)
        throw py::type_error(name.text() + " has dtype " + array.dtype() + ", expected " + kFloats +
                             advice(array.dtype()));
}

[[noreturn]] void refuse_read_only(const Name& name, const Shared& array) {
    if (array.is_copy())
        throw py::type_error(name.text() + " has an __array_interface__ of a copy, expected one of its memory");
    throw py::value_error(name.text() + " is read-only");
}

inline void require_written(const Name& name, const Shared& array) {
    if (!array.writeable) refuse_read_only(name, array);
    if (!array.view.contiguous) require_distinct_elements(name, array.view);
}

[[noreturn]] void refuse_shape(const Name& name, const Shared& array, const Name& other_name, const Shared& other) {
    throw py::value_error(name.text() + " has shape " + array.shape() + ", " + other_name.text() + " has " +
                          other.shape());
}

inline void require_shape(const Name& name, const Shared& array, const Name& other_name, const Shared& other) {
    if (!same_shape(array.view, other.view)) refuse_shape(name, array, other_name, other);
}

}  // namespace

// An optimizer keeps the state of a single array by key too.
Name Update::state_name(const Pair& pair, const Member& member, py::handle letter) const {
    Name name = member.optimizer.is_none() ? this->name("state", pair) : Name{"state", pair.key};
    name.letter = letter;
    return name;
}

Name Update::name_of(const Pair& pair, const Member& member, int operand) const {
    if (operand == kParameter) return name("params", pair);
    if (operand == kGradient) return name("grads", pair);
    if (operand == kCopy) return name("copies", pair);
    if (operand >= kScalars) return state_name(pair, member, member.scalar_name(operand - kScalars));
    return state_name(pair, member,
                      operand == kMaster ? py::handle(optimizer_names().master) : member.state_name(operand - kState));
}

// Of an array that was taken: its view, and what keeps its memory.
inline void Update::keep(const Pair& pair, const Member& member, int operand) {
    Shared& taken = shared_[operand];
    views_[operand] = taken.view;
    if (has_tensors_ && !taken.is_array && taken.by_dlpack) {  // pairs_ keeps it
        if (operand == kParameter) changed_tensors_.push_back(pair.parameter);
        return;
    }
    if (!taken.is_array) watch(pair, member, operand);
    if (operand < kState && (taken.owner.is(pair.parameter) || taken.owner.is(pair.gradient))) return;
    if (owners_.empty()) owners_.reserve(pairs_.list.size() * 2);
    owners_.push_back(std::move(taken.owner));
}

void Update::watch(const Pair& pair, const Member& member, int operand) {
    const Shared& taken = shared_[operand];
    if (tensors_.empty()) tensors_.reserve(pairs_.list.size() * 2);
    if (taken.by_dlpack) tensors_.push_back({&pair, operand, &member, taken.owner, span_of(taken.view, false)});
    ran_python_ = ran_python_ || taken.ran_python;
    const bool is_changed = operand != kGradient && (!has_tensors_ || operand == kParameter);
    if (taken.tensor && is_changed) changed_tensors_.push_back(taken.tensor);
    if (taken.tensor && operand == kGradient && options_.zero_grads) zeroed_tensors_.push_back(taken.tensor);
}

void Update::add(const Pair& pair) {
    Member& member = member_of(pair);
    ran_python_ = ran_python_ || !is_plain_key(pair.key) || !member.settings.own_values.empty();
    const Name parameter_name = name("params", pair), gradient_name = name("grads", pair);
    if (member.needs_state && !find_in_dict(member.state, pair.key)) return;
    take_parameter(pair, parameter_name);
    const Shared& parameter = shared_[kParameter];
    const bool has_rows = take_gradient(pair, parameter_name, gradient_name);
    if (has_rows && member.rule->is_factored())
        throw py::type_error(gradient_name.text() + " is a Rows, but '" + member.rule->name +
                             "' takes moments of whole columns: give it an array");
    find_values(pair, member);
    const int arithmetic = arithmetic_of(parameter.view.storage);
    const bool narrow = parameter.view.storage != arithmetic;
    const Fresh fresh =
        has_tensors_ ? take_tensor_state(pair, member, parameter_name) : take_state(pair, member, parameter_name);
    const bool copies = !options_.copies.is_none() && take_copy(pair, parameter_name);

    const int operands = 2 + member.state_count();
    for (int i = 0; i < operands; ++i) keep(pair, member, i);
    if (copies) keep(pair, member, kCopy);
    Around around;
    around.zeroes_gradient = options_.zero_grads && !has_rows;
    if (copies) around.copy = &views_[kCopy];
    if (has_rows) around.rows = &rows_.back().rows();
    if (member.masters && narrow) {
        keep(pair, member, kMaster);
        std::swap(views_[kParameter], views_[kMaster]);
        around.narrow = &views_[kMaster];
    }
    const std::int64_t t =
        has_tensors_ ? count_tensor_step(member, fresh.state) : count_step(pair, member, fresh.state);
    around.stochastic = member.stochastic && narrow ? 1u << kParameter : 0;
    for (int i = 0; member.narrow_state && i < static_cast<int>(member.rule->states.size()); ++i)
        if (views_[kState + i].storage != arithmetic) around.stochastic |= 1u << (kState + i);
    const bool own_t = member.optimizer.is_none() && member.settings.t == 0;
    const auto number = has_tensors_ ? pair.index : static_cast<std::size_t>(&pair - pairs_.list.data());
    around.randomness = {member.seed, own_t ? static_cast<std::uint64_t>(t) : member.update,
                         static_cast<std::uint32_t>(number), 0};
    const Program& program = this->program(member, arithmetic, t, fresh);
    if (has_tensors_)
        add_tensor_numbers(pair, member, program, t);
    else
        add_scalars(pair, member, program);
    try {
        step_.add(program, views_, around);
    } catch (const OperandsOverlap& overlap) {
        const auto shown = [&](int operand) {
            const bool other = member.masters && narrow && operand == kParameter;
            return name_of(pair, member, other ? int{kMaster} : operand == kMaster ? int{kParameter} : operand).text();
        };
        const bool zeroed = overlap.first == kGradient || overlap.second == kGradient;
        throw py::value_error(shown(overlap.second) + " shares memory with " + shown(overlap.first) +
                              (zeroed ? ", so the gradient can't be zeroed" : ""));
    }
    ++added_;
    if (has_rows && options_.measure == Measure::kParameters) add_unchanged(pair);  // it has more rows
}

// A parameter without a gradient, of which the norm is asked.
void Update::add_unchanged(const Pair& pair) {
    take_parameter(pair, name("params", pair));
    for (const int operand : {kParameter, kGradient}) views_[operand] = shared_[kParameter].view;
    owners_.push_back(std::move(shared_[kParameter].owner));
    step_.add(measurement(arithmetic_of(views_[kParameter].storage)), views_);
    ++added_;
}

void Update::take_parameter(const Pair& pair, const Name& parameter_name) {
    Shared& parameter = shared_[kParameter];
    // A single object has been taken already, to see that it is no container.
    const bool taken = single_ || (has_tensors_ ? take_tensor_parameter(pair, parameter_name)
                                                : parameter.take(parameter_name, pair.parameter));
    if (!taken) take_number(parameter_name, pair);
    require_float(parameter_name, parameter);
    require_written(parameter_name, parameter);
}

void Update::take_number(const Name& parameter_name, const Pair& pair) {
    py::array array = numbers_.add(parameter_name, pair);
    const int storage = storage_of(array);
    shared_[kParameter].take_array(std::move(array), storage);
}

// Whether it has rows only.
bool Update::take_gradient(const Pair& pair, const Name& parameter_name, const Name& gradient_name) {
    Shared& gradient = shared_[kGradient];
    const Shared& parameter = shared_[kParameter];
    if (!(has_tensors_ ? take_tensor_gradient(pair, gradient_name) : gradient.take(gradient_name, pair.gradient))) {
        if (take_rows(pair, gradient_name)) return true;
        py::array array = array_of_number(gradient_name, pair.gradient);
        if (options_.zero_grads)
            throw py::type_error(gradient_name.text() + " is a " + type_name(pair.gradient) +
                                 ", which can't be zeroed");
        const int storage = storage_of(array);
        gradient.take_array(std::move(array), storage);
    }
    require_shape(gradient_name, gradient, parameter_name, parameter);
    if (options_.zero_grads && !gradient.writeable)
        throw py::value_error(gradient_name.text() + " is read-only, so it can't be zeroed");
    if (gradient.view.storage == kNoStorage) convert(gradient_name, gradient, parameter.view);
    return false;
}

bool Update::take_rows(const Pair& pair, const Name& gradient_name) {
    if (!TakenRows::is_rows(pair.gradient)) return false;
    if (options_.zero_grads)
        throw py::type_error(gradient_name.text() + " is a Rows, which can't be zeroed: make a new one for each step");
    ran_python_ = true;
    TakenRows& taken = rows_.emplace_back(gradient_name, pair.gradient);
    const Shared& parameter = shared_[kParameter];
    taken.require_fit(gradient_name, name("params", pair), parameter);
    taken.merge(arithmetic_of(parameter.view.storage));
    Shared& gradient = shared_[kGradient];
    gradient.owner = pair.gradient;
    gradient.view = taken.view();
    gradient.is_array = true;
    return true;
}

void Update::convert(const Name& name, Shared& gradient, const View& parameter) {
    const auto from = py::reinterpret_borrow<py::array>(gradient.owner);
    if (from.dtype().kind() != 'f')
        throw py::type_error(name.text() + " has dtype " + gradient.dtype() + ", expected a floating-point type" +
                             advice(gradient.dtype()));
    step_.add_read(span_of(gradient.view, from.itemsize(), false));
    const char* const type = arithmetic_of(parameter.storage) == kFloat64 ? "f8" : "f4";
    py::array to = numpy().attr("empty")(from.attr("shape"), type);
    copy_numbers(from, to);
    converted_.push_back({added_, from, to});
    gradient.take_array(std::move(to), arithmetic_of(parameter.storage));
}

// The rule's state, then the average, then the master weights.
Update::Fresh Update::take_state(const Pair& pair, Member& member, const Name& parameter_name) {
    Fresh fresh;
    const Shared& parameter = shared_[kParameter];
    const int arithmetic = arithmetic_of(parameter.view.storage), count = member.state_count();
    const bool has_master = member.masters && parameter.view.storage != arithmetic;
    if (count == 0 && !has_master) return fresh;
    const bool own = member.has_state_by_key();
    if (member.narrow_state && arithmetic == kFloat64)
        throw py::value_error(parameter_name.text() + " has dtype float64, whose state can't be bfloat16");
    const py::object arrays = own       ? find_in_order(member.state, pair.key, member.state_place)
                              : single_ ? member.state
                                        : element_of("state", member.state, pair);
    const bool ordered = arrays && is_list(arrays);
    const int scalar_count = static_cast<int>(member.scalar_count());
    if (arrays && !ordered && !py::isinstance<py::dict>(arrays))
        throw py::type_error(state_name(pair, member, {}).text() + " is a " + type_name(arrays) + ", expected a dict");
    if (ordered && py::len(arrays) != static_cast<std::size_t>(count + scalar_count))
        throw py::value_error(state_name(pair, member, {}).text() + " has length " + std::to_string(py::len(arrays)) +
                              ", the rule has " + std::to_string(count + scalar_count) + " states");
    fresh.state = !arrays;
    std::optional<py::dict> made;
    Py_ssize_t place = 0;
    const int own_count = static_cast<int>(member.rule->states.size());
    for (int i = 0; i < count + (has_master ? 1 : 0); ++i) {
        const bool is_master = i == count;
        if (!is_master && i < own_count && member.rule->states[static_cast<std::size_t>(i)].start == kMadeEachStep) {
            take_direction(pair, member, i, parameter_name);
            continue;
        }
        const py::handle letter = is_master ? py::handle(optimizer_names().master) : member.state_name(i);
        const int storage = i < own_count && member.narrow_state ? int{kBFloat16} : arithmetic;
        Shared& state = shared_[is_master ? int{kMaster} : kState + i];
        const py::object value = !arrays   ? py::object()
                                 : ordered ? py::object(arrays[py::int_(i)])
                                           : find_in_order(arrays, letter, place);
        const bool is_whole = i >= own_count || member.rule->states[static_cast<std::size_t>(i)].shape == State::kWhole;
        const Extents shape =
            is_whole ? Extents() : shape_of_state(member.rule->states[static_cast<std::size_t>(i)], parameter.view);
        if (value) {
            check_state(state_name(pair, member, letter), state, !own, value, storage, parameter_name,
                        is_whole ? nullptr : &shape);
            continue;
        }
        if (arrays && !(own && i >= own_count))
            throw py::value_error(state_name(pair, member, letter).text() + " is missing");
        state.take_array(is_whole ? zeros_beside(parameter.view, storage, i) : zeros(shape, storage), storage);
        fresh.average = fresh.average || (i == own_count && !is_master);
        // A step of some rows leaves the other rows of a new average as they are here.
        if (i >= own_count)
            pack(parameter.view, arithmetic, state.view.data);
        else
            start(pair, member, i);
        if (!made) made.emplace();
        (*made)[letter] = state.owner;
    }
    for (int i = 0; i < scalar_count; ++i) {
        const py::handle letter = member.scalar_name(i);
        py::object value = !arrays   ? py::object()
                           : ordered ? py::object(arrays[py::int_(count + i)])
                                     : find_in_dict(arrays, letter);
        if (!value && arrays) throw py::value_error(state_name(pair, member, letter).text() + " is missing");
        if (!value) {
            value = numpy().attr("array")(member.rule->scalars[static_cast<std::size_t>(i)].start);
            if (!made) made.emplace();
            (*made)[letter] = value;
        }
        take_scalar(pair, member, i, value);
    }
    if (made) new_state_.push_back({&member, pair.key, arrays, std::move(*made)});
    return fresh;
}

// Gives a new state array, of zeros, the numbers that it has before the first step.
void Update::start(const Pair& pair, const Member& member, int i) {
    const char* const from = member.rule->states[static_cast<std::size_t>(i)].start;
    const Shared& state = shared_[kState + i];
    if (!from) return;
    const View& parameter = shared_[kParameter].view;
    const int arithmetic = arithmetic_of(parameter.storage);
    if (std::strcmp(from, "parameter") != 0) {
        const double value = member.settings.values[member.rule->index_of(from)];
        state.owner.attr("fill")(arithmetic == kFloat64 ? value : static_cast<float>(value));
    } else if (state.view.storage == arithmetic) {
        pack(parameter, arithmetic, state.view.data);
    } else {
        const py::array numbers = zeros_beside(parameter, arithmetic, i);
        pack(parameter, arithmetic, const_cast<void*>(numbers.data()));
        state.owner.attr("__setitem__")(py::ellipsis(), numbers);
    }
}

void Update::take_direction(const Pair& pair, const Member& member, int i, const Name& parameter_name) {
    const Shared& parameter = shared_[kParameter];
    if (parameter.view.dimensions != 2)
        throw py::value_error(parameter_name.text() + " has shape " + parameter.shape() +
                              ", expected a matrix: Split gives other parameters to another optimizer");
    if (TakenRows::is_rows(pair.gradient))
        throw py::type_error(name("grads", pair).text() +
                             " is a Rows, expected an array: the rule takes whole matrices");
    const int arithmetic = arithmetic_of(parameter.view.storage);
    Shared& direction = shared_[kState + i];
    direction.take_array(zeros_beside(parameter.view, arithmetic, i), arithmetic);
    directions_.push_back({added_, &member, direction.owner});
    ran_python_ = true;
}

void Update::take_scalar(const Pair& pair, const Member& member, int number, const py::object& value) {
    Shared& scalar = shared_[kScalars + number];
    const Name scalar_name = name_of(pair, member, kScalars + number);
    if (!scalar.take(scalar_name, value)) refuse_unshared(scalar_name, value, "an array");
    require_written(scalar_name, scalar);
    if (scalar.view.dimensions != 0 || scalar.view.storage != kFloat64)
        throw py::value_error(scalar_name.text() + " has shape " + scalar.shape() + " and dtype " + scalar.dtype() +
                              ", expected () and float64");
    std::memcpy(scalars_ + number, scalar.view.data, sizeof(double));
}

// What the step makes of a parameter's scalars; they are written when all has been checked.
void Update::add_scalars(const Pair& pair, const Member& member, const Program& program) {
    for (int i = 0; i < static_cast<int>(member.scalar_count()); ++i) {
        new_scalars_.push_back({shared_[kScalars + i].view.data, kFloat64, program.scalars[i]});
        keep(pair, member, kScalars + i);
    }
}

void Update::check_state(const Name& own_name, Shared& own, bool any, const py::object& value, int storage,
                         const Name& parameter_name, const Extents* shape) const {
    // An optimizer's is an array; a caller's may be a tensor.
    if ((!any && !py::isinstance<py::array>(value)) || !own.take(own_name, value))
        throw py::type_error(own_name.text() + " is a " + type_name(value) + ", expected an array");
    const Shared& parameter = shared_[kParameter];
    const View expected =
        shape ? View{nullptr, storage, static_cast<int>(shape->size()), shape->data(), nullptr} : parameter.view;
    if (!same_shape(own.view, expected)) {
        const std::string wanted = ", expected " + text_of(expected.shape, expected.dimensions);
        throw py::value_error(own_name.text() + " has shape " + own.shape() + ", " + parameter_name.text() + " has " +
                              parameter.shape() + (same_shape(parameter.view, expected) ? "" : wanted));
    }
    if (own.view.storage != storage && (own.view.storage == kBFloat16 || storage == kBFloat16))
        throw py::value_error(own_name.text() + " has dtype " + own.dtype() + ", expected " +
                              (storage == kBFloat16  ? "bfloat16"
                               : storage == kFloat64 ? "float64"
                                                     : "float32"));
    if (own.view.storage != storage)
        throw py::value_error(own_name.text() + " has dtype " + own.dtype() + ", " + parameter_name.text() + " has " +
                              parameter.dtype());
    require_written(own_name, own);
}

// Whether there is one.
bool Update::take_copy(const Pair& pair, const Name& parameter_name) {
    const py::object given = single_ ? options_.copies : element_of("copies", options_.copies, pair);
    if (given.is_none()) return false;
    const Name copy_name = name("copies", pair);
    Shared& copy = shared_[kCopy];
    if (!copy.take(copy_name, given)) refuse_unshared(copy_name, given, "an array");
    require_float(copy_name, copy);
    require_written(copy_name, copy);
    require_shape(copy_name, copy, parameter_name, shared_[kParameter]);
    return true;
}

}  // namespace fusedstep
