#include "step.hpp"

#include <algorithm>
#include <cstring>

#include "float_mode.hpp"
#include "parallel.hpp"

namespace fusedstep {
namespace {

constexpr std::int64_t kChunk = 16384;   // elements of a task: enough to hide what handing it out costs
constexpr std::int64_t kScratch = 1024;  // elements gathered at once: four arrays of doubles take 32 KiB of stack

std::int64_t size_of(int type) {
    return type == kFloat32 ? sizeof(float) : sizeof(double);
}

class Step {
  public:
    Step(const UpdateRule& rule, bool l2, const double* coefficients)
        : functions_(l2 ? rule.l2 : rule.plain), coefficients_(coefficients), arrays_(2 + rule.states) {}

    // All chunks of the items' concatenation, in one parallel region.
    void run(const UpdateItem* first, const UpdateItem* last) const {
        std::vector<std::int64_t> ends;  // of each item in the concatenation
        ends.reserve(static_cast<std::size_t>(last - first));
        std::int64_t total = 0, bytes = 0;
        for (const UpdateItem* item = first; item != last; ++item) {
            ends.push_back(total += item->size);
            // All arrays are read, and all but the gradient written.
            bytes += item->size * size_of(item->type) * (2 * arrays_ - 1);
        }
        parallel_for((total + kChunk - 1) / kChunk, bytes, [&](std::int64_t chunk) {
            const FloatMode mode;
            std::int64_t begin = chunk * kChunk;
            const std::int64_t end = std::min(begin + kChunk, total);
            auto i = std::upper_bound(ends.begin(), ends.end(), begin) - ends.begin();
            for (; begin < end; ++i) {
                const std::int64_t start = ends[i] - first[i].size, stop = std::min(ends[i], end);
                part(first[i], begin - start, stop - start);
                begin = stop;
            }
        });
    }

  private:
    void part(const UpdateItem& item, std::int64_t begin, std::int64_t end) const {
        const bool direct = std::all_of(item.arrays, item.arrays + arrays_,
                                        [](const StridedArray& array) { return array.strides.empty(); });
        if (direct) {
            call(item, begin, end - begin, nullptr);
        } else {
            alignas(64) double scratch[2 + kMaxStates][kScratch];
            for (; begin < end; begin += kScratch) call(item, begin, std::min(kScratch, end - begin), scratch);
        }
    }

    void call(const UpdateItem& item, std::int64_t begin, std::int64_t n, double (*scratch)[kScratch]) const {
        void* pointers[2 + kMaxStates];
        for (int i = 0; i < arrays_; ++i) {
            if (item.arrays[i].strides.empty()) {
                pointers[i] = item.arrays[i].data + begin * size_of(item.type);
            } else {
                pointers[i] = scratch[i];
                gather(item.shape, item.arrays[i], begin, n, item.type, scratch[i]);
            }
        }
        functions_[item.type](n, coefficients_, pointers);
        for (int i = 0; i < arrays_; ++i) {
            if (i != kGradient && !item.arrays[i].strides.empty())
                scatter(item.shape, item.arrays[i], begin, n, scratch[i]);
        }
    }

    const UpdateFunction* functions_;
    const double* coefficients_;
    int arrays_;
};

void copy_gradient(UpdateItem& item) {
    if (!item.gradient_copy) return;
    const FloatMode mode;  // it may be converted
    StridedArray& gradient = item.arrays[kGradient];
    if (gradient.strides.empty())
        std::memcpy(item.gradient_copy, gradient.data, static_cast<std::size_t>(item.size * size_of(item.type)));
    else
        gather(item.shape, gradient, 0, item.size, item.type, item.gradient_copy);
    gradient = {static_cast<char*>(item.gradient_copy), item.type, {}};
}

// Drops axes of length 1 and joins axes that all the given strides step through as through one.
void coalesce(Extents& shape, const std::vector<Extents*>& all_strides) {
    std::size_t kept = 0;
    for (std::size_t d = 0; d < shape.size(); ++d) {
        if (shape[d] == 1) continue;
        const bool joins = kept > 0 && std::all_of(all_strides.begin(), all_strides.end(), [&](const Extents* strides) {
                               return (*strides)[kept - 1] == (*strides)[d] * shape[d];
                           });
        const std::size_t to = joins ? kept - 1 : kept++;
        shape[to] = joins ? shape[to] * shape[d] : shape[d];
        for (Extents* strides : all_strides) (*strides)[to] = (*strides)[d];
    }
    if (kept == 0) {
        shape.assign(1, 1);
        for (Extents* strides : all_strides) strides->assign(1, 0);
        return;
    }
    shape.resize(kept);
    for (Extents* strides : all_strides) strides->resize(kept);
}

}  // namespace

UpdateItem update_item(const std::vector<View>& arrays) {
    const View& parameter = arrays[kParameter];
    UpdateItem item{parameter.size, parameter.type, {}, {}};
    for (std::size_t i = 0; i < arrays.size(); ++i) item.arrays[i] = {arrays[i].data, arrays[i].type, {}};
    const std::vector<int> order = memory_order(parameter);
    item.shape = permuted(parameter.shape, order);
    std::vector<Extents*> strided;
    for (std::size_t i = 0; i < arrays.size(); ++i) {
        Extents strides = permuted(arrays[i].strides, order);
        if (arrays[i].type == item.type && arrays[i].aligned && is_dense(item.shape, strides, arrays[i].item_size))
            continue;
        item.arrays[i].strides = std::move(strides);
        strided.push_back(&item.arrays[i].strides);
    }
    coalesce(item.shape, strided);
    return item;
}

void update(const UpdateRule& rule, bool l2, const double* coefficients, std::vector<UpdateItem>& items,
            bool in_order) {
    const Step step(rule, l2, coefficients);
    if (in_order) {
        for (UpdateItem& item : items) {
            copy_gradient(item);
            step.run(&item, &item + 1);
        }
    } else {
        for (UpdateItem& item : items) copy_gradient(item);
        step.run(items.data(), items.data() + items.size());
    }
}

}  // namespace fusedstep
