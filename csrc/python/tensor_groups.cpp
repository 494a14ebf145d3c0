// A step of an optimizer of PyTorch's: parameters with their gradients and state as PyTorch keeps them, in groups.
#include <algorithm>
#include <cmath>
#include <string>

#include "update.hpp"

namespace fusedstep {
namespace {

// A parameter is on another device than the CPU, or of a class whose memory is that of other tensors, as DTensor's.
struct OtherDevice {
    std::size_t group;
};

// A gradient is not what its memory says: conjugate, negated or sparse.
struct Unresolved {};

// Whether PyTorch gives operations on it to code of its class.
bool is_wrapper(const py::object& tensor) {
    static const char* const dispatch = "__torch_dispatch__";
    const py::object own = tensor.get_type().attr(dispatch);
    return !own.is(py::object(py::module_::import("torch").attr("Tensor").attr(dispatch)));
}

double number_of(const View& number) {
    if (number.storage == kFloat64) return *reinterpret_cast<const double*>(number.data);
    return static_cast<double>(*reinterpret_cast<const float*>(number.data));
}

}  // namespace

TensorGroup::TensorGroup(const py::tuple& given) {
    const py::tuple rule(given[0]);
    rule_name = rule[0];
    own = py::dict(rule[1]);
    names = py::tuple(rule[2]);
    numbers = rule[3].cast<std::size_t>();
    states = names.size() - numbers;
    lr_decay = rule[4].cast<double>();
    group = py::dict(given[1]);
    parameters = py::list(given[2]);
    average = given[3];
    has_masters = given[4].cast<bool>();
    seed = given[5];
    order = given[6];
    if (!average.is_none()) names = names + py::make_tuple(optimizer_names().average);
    if (has_masters) names = names + py::make_tuple(optimizer_names().master);
}

// Everything that runs Python's code comes here, before the first memory is looked at.
Pairs::Pairs(const std::vector<TensorGroup>& groups, const py::dict& state, const py::object& start,
             const py::object& resolve) {
    static PyObject* const grad = PyUnicode_InternFromString("grad");
    std::size_t count = 0, names = 0;
    for (const TensorGroup& group : groups) {
        count += group.parameters.size();
        names += group.parameters.size() * group.names.size();
    }
    list.reserve(count);
    tensors.reserve(names);
    containers.push_back({nullptr, state, py::tuple(), 0, count});
    Py_ssize_t place = 0;
    for (std::size_t number = 0; number < groups.size(); ++number) {
        const TensorGroup& group = groups[number];
        for (std::size_t i = 0; i < group.parameters.size(); ++i) {
            Pair& pair = list.emplace_back();
            pair.index = group.order.is_none() ? list.size() - 1 : group.order[py::int_(i)].cast<std::size_t>();
            pair.key = py::int_(pair.index);
            pair.parameter = group.parameters[i];
            pair.container = &containers.front();
            pair.member = number;
            pair.gradient = py::reinterpret_steal<py::object>(PyObject_GetAttr(pair.parameter.ptr(), grad));
            if (!pair.gradient) throw py::error_already_set();
            // Also of a parameter that takes no part, so that those behind it are found in order.
            const py::object own = group.names.empty() ? py::object() : find_in_order(state, pair.parameter, place);
            if (pair.gradient.is_none()) continue;
            if (!resolve.is_none()) pair.gradient = resolve(number, pair.parameter, pair.gradient);
            if (!group.names.empty()) find_tensors(pair, group, own, start);
        }
    }
}

// own: the state of the pair's parameter, or null.
void Pairs::find_tensors(Pair& pair, const TensorGroup& group, const py::object& own, const py::object& start) {
    if (own && !PyDict_Check(own.ptr()))
        throw py::type_error("state[" + std::to_string(pair.index) + "] is a " + type_name(own) + ", expected a dict");
    pair.tensors = tensors.size();
    py::object made;
    Py_ssize_t place = 0;
    for (std::size_t k = 0; k < group.names.size(); ++k) {
        const py::handle name = group.name(k);
        py::object& tensor = tensors.emplace_back();
        if (name.is_none()) continue;
        if (own) tensor = find_in_order(own, name, place);
        if (tensor && !tensor.is_none()) continue;
        if (!made) {
            made = start(pair.member, pair.parameter, own ? own : py::object(py::none()));
            started.push_back({list.size() - 1, own, made});
        }
        tensor = made[name];
        const std::size_t first = group.numbers, end = group.numbers + group.states;
        pair.is_new = pair.is_new || (k >= first && k < end);
        pair.has_new_average = pair.has_new_average || (k == end && !group.average.is_none());
    }
}

Update::Update(std::vector<Member> members, const std::vector<TensorGroup>& groups, const py::dict& state,
               const py::object& start, const py::object& resolve, CallOptions options)
    : members_(std::move(members)),
      assignment_{py::none(), py::none()},
      options_(std::move(options)),
      pairs_(groups, state, start, resolve),
      has_tensors_(true),
      is_resolved_(!resolve.is_none()),
      step_(options_.measure) {
    for (const auto& [pair, dict, made] : pairs_.started) {
        const Pair& own = pairs_.list[pair];
        new_state_.push_back({&members_[own.member], own.parameter, dict, made});
    }
    ran_python_ = !new_state_.empty();
    add_all();
}

bool Update::take_tensor_parameter(const Pair& pair, const Name& name) {
    Shared& parameter = shared_[kParameter];
    if (parameter.take_tensor(pair.parameter, true, true)) return true;
    if (text(pair.parameter.attr("device").attr("type")) != "cpu" || is_wrapper(pair.parameter))
        throw OtherDevice{pair.member};
    return parameter.take(name, pair.parameter);
}

bool Update::take_tensor_gradient(const Pair& pair, const Name& name) {
    Shared& gradient = shared_[kGradient];
    if (gradient.take_tensor(pair.gradient, true)) return true;
    if (!is_resolved_) throw Unresolved{};
    return gradient.take(name, pair.gradient);
}

// As its optimizer keeps it. The numbers are read here, and written when all has been checked.
Update::Fresh Update::take_tensor_state(const Pair& pair, Member& member, const Name& parameter_name) {
    static char nothing;
    static const Extent no_rows[] = {0}, no_strides[] = {1};
    const Shared& parameter = shared_[kParameter];
    const int arithmetic = arithmetic_of(parameter.view.storage), count = member.state_count();
    const std::size_t own_count = member.rule->states.size(), number_count = member.scalar_count();
    const std::size_t first_scalar = member.counts_steps ? 1 : 0;
    const auto tensor = [&](std::size_t i) -> const py::object& { return pairs_.tensors[pair.tensors + i]; };
    const auto take = [&](Shared& taken, const py::object& value, const Name& name) {
        if (!taken.take_tensor(value, true, true) && !taken.take(name, value))
            throw py::type_error(name.text() + " is a " + type_name(value) + ", expected a tensor");
    };
    for (int i = 0; i < count + (member.masters ? 1 : 0); ++i) {
        const bool is_master = i == count, is_own = i < static_cast<int>(own_count);
        Shared& state = shared_[is_master ? int{kMaster} : kState + i];
        const py::object& value = tensor(number_count + static_cast<std::size_t>(i));
        if (!value) {
            state.view = {&nothing, arithmetic, 1, no_rows, no_strides, true};
            state.is_array = true;
            continue;
        }
        const Name name =
            state_name(pair, member, is_master ? py::handle(optimizer_names().master) : member.state_name(i));
        take(state, value, name);
        const bool is_whole = !is_own || member.rule->states[static_cast<std::size_t>(i)].shape == State::kWhole;
        Extents shape;
        if (!is_whole) shape = shape_of_state(member.rule->states[static_cast<std::size_t>(i)], parameter.view);
        const View expected = is_whole
                                  ? parameter.view
                                  : View{nullptr, arithmetic, static_cast<int>(shape.size()), shape.data(), nullptr};
        if (!same_shape(state.view, expected))
            throw py::value_error(name.text() + " has shape " + state.shape() + ", expected " +
                                  text_of(expected.shape, expected.dimensions));
        if (state.view.storage != arithmetic && state.view.storage != parameter.view.storage)
            throw py::value_error(name.text() + " has dtype " + state.dtype() + ", " + parameter_name.text() + " has " +
                                  parameter.dtype());
        if (!state.view.contiguous) require_distinct_elements(name, state.view);
    }
    for (std::size_t i = 0; i < number_count; ++i) {
        Shared& number = shared_[kScalars + i];
        const Name name = state_name(pair, member, member.scalar_name(static_cast<int>(i)));
        take(number, tensor(i), name);
        if (number.view.size() != 1 || (number.view.storage != kFloat32 && number.view.storage != kFloat64))
            throw py::value_error(name.text() + " has shape " + number.shape() + " and dtype " + number.dtype() +
                                  ", expected one number in float32 or float64");
        if (i >= first_scalar) scalars_[i - first_scalar] = number_of(number.view);
    }
    return {pair.is_new, pair.has_new_average};
}

std::int64_t Update::count_tensor_step(const Member& member, bool fresh) const {
    if (!member.counts_steps) return fresh ? 1 : 2;
    constexpr double kMost = 1e18;
    const double made = number_of(shared_[kScalars].view);
    return made >= 0 && made < kMost ? static_cast<std::int64_t>(made) + 1 : 1;
}

void Update::add_tensor_numbers(const Pair& pair, const Member& member, const Program& program, std::int64_t t) {
    const int count = static_cast<int>(member.scalar_count());
    for (int i = 0; i < count; ++i) {
        const View& number = shared_[kScalars + i].view;
        const int scalar = i - (member.counts_steps ? 1 : 0);
        const double value = scalar < 0 ? static_cast<double>(t) : program.scalars[scalar];
        new_scalars_.push_back({number.data, number.storage, value});
        keep(pair, member, kScalars + i);
    }
}

// groups: as TensorGroup has them. start(group, parameter, its state's dict or None): what that lacks, by name.
// resolve(group, parameter, gradient): a gradient whose memory is what it says, or a Rows. The result is as update's,
// or the number of a group with parameters on another device.
static py::object step_tensors(const py::dict& state, const py::list& groups, const py::object& start,
                               const py::object& resolve, double scale, const py::object& clip_norm,
                               const py::object& norm) {
    CallOptions options;
    if (!clip_norm.is_none()) options.clip_norm = clip_norm.cast<double>();
    if (!norm.is_none()) options.norm = norm.cast<double>();
    if (options.clip_norm && !options.norm) options.measure = Measure::kGradients;
    std::vector<TensorGroup> taken;
    taken.reserve(groups.size());
    for (const py::handle group : groups) taken.emplace_back(py::reinterpret_borrow<py::tuple>(group));
    const auto step = [&](const py::object& resolved) {
        return run([&] {
            std::vector<Member> members;
            members.reserve(taken.size());
            for (const TensorGroup& group : taken) members.push_back(Member::of_tensors(group, state, scale));
            return Update(std::move(members), taken, state, start, resolved, options).run();
        });
    };
    try {
        try {
            return step(py::none());
        } catch (const Unresolved&) {
            return step(resolve);
        }
    } catch (const OtherDevice& other) {
        return py::int_(other.group);
    }
}

void bind_tensor_groups(py::module_& module) {
    using namespace pybind11::literals;
    module.def("step_tensors", &step_tensors, "state"_a, "groups"_a, "start"_a, "resolve"_a, "scale"_a, "clip_norm"_a,
               "norm"_a);
}

}  // namespace fusedstep
