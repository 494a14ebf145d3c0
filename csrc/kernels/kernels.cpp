// The loops and the kernel table. The only file that is compiled once per instruction set: it has no global symbol but
// its table, so that no code for a newer processor can end up in another table or in the rest of the library.
//
// FUSEDSTEP_TABLE is the table's identifier, FUSEDSTEP_ISA its name in Python; CMakeLists.txt sets both.
#include "batch_norm_loops.hpp"
#include "convert.hpp"
#include "dropout_loops.hpp"
#include "factored_sums.hpp"
#include "loops.hpp"
#include "reductions.hpp"
#include "stochastic.hpp"

namespace {

template <class T> constexpr fusedstep::BatchNormTable<T> kBatchNorm = {
    {channel_moments<T>, channel_sums<T>, channel_normalize<T>, channel_gradient<T>},
    {panel_moments<T>, panel_sums<T>, panel_normalize<T>, panel_gradient<T>},
};

}  // namespace

namespace fusedstep {

extern const KernelTable FUSEDSTEP_TABLE;
const KernelTable FUSEDSTEP_TABLE = {FUSEDSTEP_ISA,
                                     kStageList.stages,
                                     kStageList.count,
                                     {{copy<float>, convert<float, double>},
                                      {convert<double, float>, copy<double>},
                                      {load_narrow<Float16, float>, load_narrow<Float16, double>},
                                      {load_narrow<BFloat16, float>, load_narrow<BFloat16, double>}},
                                     {{copy<float>, convert<double, float>},
                                      {convert<float, double>, copy<double>},
                                      {store_narrow<Float16, float>, store_narrow<Float16, double>},
                                      {store_narrow<BFloat16, float>, store_narrow<BFloat16, double>}},
                                     {{},
                                      {},
                                      {store_randomly<Float16, float>, store_randomly<Float16, double>},
                                      {store_randomly<BFloat16, float>, store_randomly<BFloat16, double>}},
                                     {sum_of_squares<float>, sum_of_squares<double>},
                                     {add_squares<float>, add_squares<double>},
                                     {add_update_squares<float>, add_update_squares<double>},
                                     kBatchNorm<float>,
                                     kBatchNorm<double>,
                                     {dropout<float>, dropout<double>}};

}  // namespace fusedstep
