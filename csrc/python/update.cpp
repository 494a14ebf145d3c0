#include "update.hpp"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <list>

#include "float_mode.hpp"
#include "optimizer_lock.hpp"

namespace fusedstep {

Update::Update(std::vector<Member> members, const Assignment& assignment, const py::object& params,
               const py::object& grads, CallOptions options)
    : members_(std::move(members)),
      assignment_(assignment),
      params_(params),
      grads_(grads),
      options_(std::move(options)),
      pairs_(params_, grads_, shared_[kParameter]),
      step_(options_.measure) {
    single_ = pairs_.is_single;
    find_optimizers();
    add_all();
}

void Update::add_all() {
    step_.reserve(pairs_.list.size());
    for (const Pair& pair : pairs_.list) {
        if (!pair.gradient.is_none())
            add(pair);
        else if (options_.measure == Measure::kParameters)
            add_unchanged(pair);
    }
    refuse_keys_of_json();
    plan();
    keep_memory_of_tensors();
}

void Update::find_optimizers() {
    for (const Member& member : members_) {
        const auto is_same = [&](const py::object& other) { return other.is(member.optimizer); };
        if (!member.optimizer.is_none() && std::none_of(optimizers_.begin(), optimizers_.end(), is_same))
            optimizers_.push_back(member.optimizer);
        // The keys of a list are positions: in a list of another length they may be those of other parameters.
        const auto has_lengths = [&](const auto& each) { return is_same(each.first); };
        if (member.optimizer.is_none() || (member.state_count() == 0 && !member.masters) ||
            std::any_of(new_lengths_.begin(), new_lengths_.end(), has_lengths))
            continue;
        if (py::object lengths = pairs_.changed_lengths(member.optimizer))
            new_lengths_.emplace_back(member.optimizer, std::move(lengths));
    }
}

Member& Update::member_of(const Pair& pair) {
    if (assignment_.known.is_none()) return members_[pair.member];
    py::object index = find_in_dict(assignment_.known, pair.key);
    if (!index) {
        ran_python_ = true;
        index = assignment_.assign(pair.key, pair.parameter);
        if (PyDict_SetItem(assignment_.known.ptr(), pair.key.ptr(), index.ptr()) != 0) throw py::error_already_set();
    }
    return members_.at(index.cast<std::size_t>());
}

void Update::refuse_keys_of_json() {
    for (const py::object& optimizer : optimizers_) {
        std::vector<std::pair<py::object, py::dict>> made;
        py::object state;
        for (const NewState& each : new_state_) {
            if (each.dict || !each.member->optimizer.is(optimizer)) continue;
            made.emplace_back(each.key, each.made);
            state = each.member->state;
        }
        if (!made.empty()) fusedstep::refuse_keys_of_json(state, made, pairs_.list.size());
    }
}

void Update::plan() {
    try {
        step_.plan();
    } catch (const ZeroedOverlap& overlap) {
        std::size_t number = 0;
        for (const Pair& pair : pairs_.list)
            if (!pair.gradient.is_none() && number++ == overlap.number)
                throw py::value_error(name("grads", pair).text() +
                                      " shares memory with an array of another parameter, so it can't be zeroed");
    }
}

// A tensor can be given other memory while it is kept, by another thread or by what has run here since it was
// looked at. Another tensor of the same memory keeps that, but takes longer than updating a small one: a few small
// tensors are updated with the GIL held.
void Update::keep_memory_of_tensors() {
#ifdef Py_GIL_DISABLED
    constexpr bool has_gil = false;
#else
    constexpr bool has_gil = true;
#endif
    constexpr std::int64_t kMostBytes = 1 << 20;
    if (tensors_.empty() && !has_tensors_) return;
    holds_gil_ = has_gil && !ran_python_ && step_.bytes() <= kMostBytes;
    if (holds_gil_ || has_tensors_) return;  // as for PyTorch's own steps, that is for the caller to prevent
    for (const Tensor& tensor : tensors_) {
        owners_.push_back(tensor.owner.attr("detach")());
        Shared same;
        // Not by way of NumPy, which allocates memory for a tensor that has none, maybe where that was.
        if (same.take_tensor(owners_.back(), true, true) && span_of(same.view, false) == tensor.span) continue;
        throw OtherMemory{
            name_of(*tensor.pair, *tensor.member, tensor.operand).text() + " was given other memory during the update",
            ran_python_};
    }
}

// Nobody may take numbers away meanwhile.
template <class Run> void Update::without_gil(const Run& run) {
    if (holds_gil_ || !numbers_.empty()) return run();
    const WithoutGil released;
    run();
}

// Counts are moved here, not in Python, where an interrupt could come between the step and the count. What can fail
// comes before the first array is written, and is undone if something after it fails.
py::tuple Update::run() {
    std::sort(optimizers_.begin(), optimizers_.end(),
              [](const py::object& a, const py::object& b) { return a.ptr() < b.ptr(); });
    struct Counted {
        explicit Counted(const py::object& own) : optimizer(own), lock(own) {}

        const py::object& optimizer;
        const OptimizerLock lock;
        py::object iterations;
    };
    std::list<Counted> counted;  // in one order, so that two calls never wait for each other
    for (const py::object& optimizer : optimizers_) counted.emplace_back(optimizer);
    if (options_.norm) norm_ = Norm{*options_.norm, std::isfinite(*options_.norm)};
    const auto shown_norm = [this] { return norm_ ? py::object(py::float_(norm_->value)) : py::none(); };
    if (options_.skip_nonfinite) without_gil([this] { take_norm(); });
    if (options_.skip_nonfinite && !norm_->is_finite) {
        if (options_.zero_grads) {
            step_.zero_gradients();
            zero_converted();
            count_changes(zeroed_tensors_);
        }
        return py::make_tuple(shown_norm(), true);
    }
    for (Counted& each : counted)
        each.iterations = Attributes(each.optimizer)[optimizer_names().iterations] + py::int_(1);
    numbers_.require_replaceable();
    const bool in_turn = step_.is_sequential() && (!converted_.empty() || !directions_.empty());
    if (!in_turn && !directions_.empty()) {
        without_gil([this] {
            take_norm();
            step_.run_first();
        });
        for (const Direction& direction : directions_) finish(direction);
    }
    commit();
    if (in_turn)
        run_in_turn();
    else
        without_gil([this] {
            take_norm();
            step_.run();
        });
    for (const Counted& each : counted) {
        const py::object& name = optimizer_names().iterations;
        if (PyObject_GenericSetAttr(each.optimizer.ptr(), name.ptr(), each.iterations.ptr()) != 0)
            throw py::error_already_set();
    }
    numbers_.replace();
    if (options_.zero_grads) zero_converted();
    count_changes(changed_tensors_);
    count_changes(zeroed_tensors_);
    static PyObject* const plain = py::make_tuple(py::none(), false).release().ptr();
    return norm_ ? py::make_tuple(shown_norm(), false) : py::reinterpret_borrow<py::tuple>(plain);
}

// Once, if one is needed, and what follows from it.
void Update::take_norm() {
    if (!norm_ && options_.measure == Measure::kGradients) norm_ = step_.norm_of_gradients();
    if (!options_.clip_norm) return;
    const double factor = clip_factor(*options_.clip_norm, norm_->value);
    first_program_.set_clip(factor);
    for (Program& program : more_programs_) program.set_clip(factor);
}

static void set(const py::object& dict, const py::handle& key, const py::object& value) {
    if (PyDict_SetItem(dict.ptr(), key.ptr(), value.ptr()) != 0) throw py::error_already_set();
}

// The new state and counts.
void Update::commit() {
    std::optional<Restored> restored;
    if (!new_state_.empty() || (ran_python_ && !new_counts_.empty())) {
        std::vector<py::object> dicts;
        for (const Member& member : members_) {
            if (member.optimizer.is_none()) continue;
            dicts.push_back(member.state);
            dicts.push_back(member.settings.counts);
        }
        for (const NewState& each : new_state_) dicts.push_back(each.dict);
        restored.emplace(dicts);
    }
    for (const auto& [member, key, dict, made] : new_state_) {
        if (!dict) set(member->state, key, made);
        for (const auto& [letter, array] : dict ? made : py::dict())
            set(dict, letter, py::reinterpret_borrow<py::object>(array));
    }
    for (const auto& [data, storage, value] : new_scalars_) {
        const auto narrow = static_cast<float>(value);
        std::memcpy(data, storage == kFloat32 ? static_cast<const void*>(&narrow) : &value,
                    static_cast<std::size_t>(size_of(storage)));
    }
    py::int_ count(0);  // one object for all that have the same
    std::int64_t last = 0;
    for (const auto& [pair, member, t] : new_counts_) {
        if (t != last) count = py::int_(last = t);
        set(member->settings.counts, pair->key, count);
    }
    for (const auto& [optimizer, lengths] : new_lengths_) optimizer.attr(optimizer_names().lengths) = lengths;
    if (restored) restored->keep();
}

// Nothing has changed yet, unless parameters share memory.
void Update::finish(const Direction& direction) {
    direction.member->optimizer.attr("_finish")(direction.array);
}

// A gradient may be in the memory of a parameter that is updated before its own.
void Update::run_in_turn() {
    take_norm();
    auto next = converted_.begin();
    auto direction = directions_.begin();
    for (std::size_t i = 0; i < added_; ++i) {
        if (next != converted_.end() && next->number == i) {
            copy_numbers(next->from, next->to);
            ++next;
        }
        if (direction != directions_.end() && direction->number == i) {
            step_.run_first_of(i);
            finish(*direction++);
        }
        const WithoutGil released;
        step_.run_one(i);
    }
    if (options_.zero_grads) step_.zero_gradients();
}

void Update::zero_converted() const {
    for (const Converted& each : converted_) each.from.attr("fill")(0);
}

}  // namespace fusedstep
