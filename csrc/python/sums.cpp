// The functions of the module that sum up: weighted means of arrays, and rows into a matrix.
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "taken_rows.hpp"
#include "weighted_mean.hpp"

namespace fusedstep {
namespace {

// An array of lists[i], or of the object in its place, and the place for errors: a tuple that begins with i.
class Term {
  public:
    Term(const py::object& given, const py::tuple& path) {
        const Name name{"lists", path, {}, true};
        if (!shared_.take(name, given)) {
            py::array array = array_of_number(name, given);
            const int storage = storage_of(array);
            shared_.take_array(std::move(array), storage);
        }
    }

    // A type that only NumPy can read is converted.
    void require_floats(const py::tuple& path, int arithmetic) {
        if (shared_.view.storage != kNoStorage) return;
        const auto array = py::reinterpret_borrow<py::array>(shared_.owner);
        if (arithmetic == kNoStorage || array.dtype().kind() != 'f')
            throw py::type_error(Name{"lists", path, {}, true}.text() + " has dtype " + shared_.dtype() +
                                 ", expected " + kFloats);
        py::array to = numpy().attr("empty")(array.attr("shape"), arithmetic == kFloat64 ? "f8" : "f4");
        copy_numbers(array, to);
        shared_.take_array(std::move(to), arithmetic);
    }

    void require_same_shape(const py::tuple& path, const Term& other, const py::tuple& other_path) const {
        if (!fusedstep::same_shape(view(), other.view()))
            throw py::value_error(Name{"lists", path, {}, true}.text() + " has shape " + shared_.shape() + ", " +
                                  Name{"lists", other_path, {}, true}.text() + " has " + other.shared_.shape());
    }

    // An uninitialised array for the mean.
    py::array mean() const {
        if (shared_.is_array) {
            const auto array = py::reinterpret_borrow<py::array>(shared_.owner);
            if (is_c_contiguous(array)) return result_like(array);
        }
        return uninitialized(Extents(view().shape, view().shape + view().dimensions), view().storage);
    }

    const View& view() const { return shared_.view; }
    const py::object& owner() const { return shared_.owner; }

    bool is_tensor() const { return shared_.by_dlpack; }

  private:
    Shared shared_;
};

// arrays: of each place in the lists, the arrays of all lists; paths: each place.
py::list weighted_means(const py::list& arrays, const py::list& paths, const py::list& factors) {
    py::list means;
    std::vector<py::object> owners;
    std::vector<double> numbers;
    for (const py::handle factor : factors) numbers.push_back(factor.cast<double>());
    WeightedMeans sums(std::move(numbers));
    bool holds_gil = false;
    for (std::size_t place = 0; place < arrays.size(); ++place) {
        const py::list terms = arrays[place];
        const auto path_in = [&](std::size_t list) { return py::tuple(py::make_tuple(list) + paths[place]); };
        const py::tuple first_path = path_in(0);
        Term first(terms[0], first_path);
        first.require_floats(first_path, kNoStorage);
        const py::array mean = first.mean();
        sums.add_mean(view_of(mean));
        means.append(mean);
        for (std::size_t i = 0; i < terms.size(); ++i) {
            const py::tuple path = path_in(i);
            Term term(terms[i], path);
            term.require_same_shape(path, first, first_path);
            term.require_floats(path, arithmetic_of(first.view().storage));
            sums.add_term(term.view());
            owners.push_back(term.owner());
            holds_gil = holds_gil || term.is_tensor();
        }
    }
    std::optional<WithoutGil> released;
    if (!holds_gil) released.emplace();  // else a tensor could be given other memory meanwhile
    sums.run();
    return means;
}

void add_rows_to(const py::object& target, const py::object& rows) {
    const Name name{"target"};
    Shared matrix;
    if (!matrix.take(name, target)) refuse_unshared(name, target, "an array");
    if (matrix.view.storage == kNoStorage)
        throw py::type_error("target has dtype " + matrix.dtype() + ", expected " + kFloats);
    if (!matrix.writeable) throw py::value_error("target is read-only");
    require_distinct_elements(name, matrix.view);
    const TakenRows taken({}, rows);
    taken.require_fit({}, name, matrix);
    {
        std::optional<WithoutGil> released;
        if (!matrix.by_dlpack && !taken.is_tensor()) released.emplace();
        add_rows(matrix.view, taken.numbers(), taken.count(), taken.values());
    }
    if (matrix.tensor) count_changes({matrix.tensor});
}

}  // namespace

void bind_sums(py::module_& module) {
    using namespace pybind11::literals;
    module.def("weighted_means", &weighted_means, "arrays"_a, "paths"_a, "factors"_a);
    module.def("add_rows", &add_rows_to, "target"_a, "rows"_a);
}

}  // namespace fusedstep
