#include "taken_rows.hpp"

#include <algorithm>
#include <string>

namespace fusedstep {

bool TakenRows::is_rows(const py::object& given) {
    static PyObject* const type = py::object(py::module_::import("fusedstep").attr("Rows")).release().ptr();
    return py::isinstance(given, type);
}

TakenRows::TakenRows(const Name& name, const py::object& given)
    : indices_(
          py::array_t<std::int64_t, py::array::c_style | py::array::forcecast>(py::object(given.attr("indices")))) {
    const bool is_shared = values_.take(name.container ? name : Name{"values"}, given.attr("values"));
    if (!is_shared || values_.view.storage == kNoStorage) {
        if (name.container) throw py::type_error(name.text() + " has values that are no array of " + kFloats);
        const std::string found =
            is_shared ? "has dtype " + values_.dtype() : "is a " + type_name(given.attr("values"));
        throw py::type_error("values " + found + ", expected an array of " + kFloats);
    }
    const View& values = values_.view;
    if (indices_.ndim() != 1 || values.dimensions == 0 || values.shape[0] != indices_.shape(0))
        throw py::value_error((name.container ? name.text() + " has " : "") + "indices of shape " +
                              text_of(indices_.shape(), static_cast<int>(indices_.ndim())) + " and values of shape " +
                              values_.shape());
    shape_.assign(values.shape, values.shape + values.dimensions);
}

void TakenRows::require_fit(const Name& name, const Name& parameter_name, const Shared& parameter) const {
    const View &matrix = parameter.view, &values = values_.view;
    if (values.dimensions != matrix.dimensions ||
        !std::equal(matrix.shape + 1, matrix.shape + matrix.dimensions, values.shape + 1))
        throw py::value_error((name.container ? name.text() + " has values of shape " : "values has shape ") +
                              values_.shape() + ", " + parameter_name.text() + " has shape " + parameter.shape());
    for (std::int64_t i = 0; i < count(); ++i)
        if (numbers()[i] < 0 || numbers()[i] >= matrix.shape[0])
            throw py::index_error((name.container ? name.text() + "." : "") + "indices[" + std::to_string(i) + "] is " +
                                  std::to_string(numbers()[i]) + ", " + parameter_name.text() + " has " +
                                  std::to_string(matrix.shape[0]) + " rows");
}

void TakenRows::merge(int arithmetic) {
    arithmetic_ = arithmetic;
    merged_ = merge_rows(numbers(), count(), values(), arithmetic);
    rows_ = {merged_.numbers.data(), static_cast<std::int64_t>(merged_.numbers.size())};
    shape_[0] = static_cast<Extent>(rows_.count);
    strides_ = row_major_strides(shape_, arithmetic);
}

View TakenRows::view() const {
    return {merged_.values.get(), arithmetic_, static_cast<int>(shape_.size()), shape_.data(), strides_.data(), true};
}

}  // namespace fusedstep
