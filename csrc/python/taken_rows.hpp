// A gradient that has some rows of its parameter only.
#pragma once

#include "rows.hpp"
#include "shared.hpp"
#include "step.hpp"

namespace fusedstep {

class TakenRows {
  public:
    static bool is_rows(const py::object& given);

    // name: of the rows; without one they are the arguments `indices` and `values`.
    TakenRows(const Name& name, const py::object& given);
    TakenRows(const TakenRows&) = delete;
    TakenRows& operator=(const TakenRows&) = delete;

    // An error unless these are rows of the parameter.
    void require_fit(const Name& name, const Name& parameter_name, const Shared& parameter) const;

    // As they were given.
    const std::int64_t* numbers() const { return reinterpret_cast<const std::int64_t*>(indices_.data()); }
    std::int64_t count() const { return indices_.size(); }
    const View& values() const { return values_.view; }
    bool is_tensor() const { return values_.by_dlpack; }

    // Adds up rows of the same number, after which the next two may be called.
    void merge(int arithmetic);
    const RowNumbers& rows() const { return rows_; }
    View view() const;

    int storage() const { return values_.view.storage; }

  private:
    py::array indices_;
    Shared values_;
    MergedRows merged_;
    RowNumbers rows_ = {};
    int arithmetic_ = kFloat32;
    Extents shape_, strides_;
};

}  // namespace fusedstep
