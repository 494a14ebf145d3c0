// The functions of the C interface's table.
#pragma once

#include "fusedstep.h"

namespace fusedstep {

// c_rules.cpp
int rule_count() noexcept;
int describe_rule(std::int32_t index, fusedstep_rule* result, std::size_t size) noexcept;
int describe_hyperparameter(const char* rule, std::int32_t index, fusedstep_hyperparameter* result,
                            std::size_t size) noexcept;
int defaults(const char* rule, fusedstep_settings* result, std::size_t size) noexcept;

// c_update.cpp
int update(std::int64_t count, const fusedstep_item* items, std::size_t item_size, fusedstep_gradients* gradients,
           fusedstep_error* error) noexcept;
int accumulate(std::int64_t count, const fusedstep_item* items, std::size_t item_size, double scale, double* norm,
               fusedstep_error* error) noexcept;
int gradient_norm(std::int64_t count, const fusedstep_item* items, std::size_t item_size, double* norm,
                  fusedstep_error* error) noexcept;

// c_layers.cpp
int batch_norm_training(const fusedstep_batch_norm_training* call, fusedstep_error* error) noexcept;
int batch_norm_inference(const fusedstep_batch_norm_inference* call, fusedstep_error* error) noexcept;
int batch_norm_backward(const fusedstep_batch_norm_backward* call, fusedstep_error* error) noexcept;
int dropout(const fusedstep_dropout* call, fusedstep_error* error) noexcept;

}  // namespace fusedstep
