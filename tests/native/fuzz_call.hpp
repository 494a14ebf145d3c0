// A call of the C interface that a fuzzer makes up: its arrays, structs, strings and numbers, some of which must be
// refused, and the check of what became of them.
#pragma once

#include <fuzzer/FuzzedDataProvider.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "fusedstep.h"

namespace {

void check(bool holds, const char* what) {
    if (holds) return;
    std::fprintf(stderr, "%s\n", what);
    std::abort();
}

constexpr std::size_t kBlock = 4096;          // bytes in which arrays overlap
constexpr std::size_t kLargestStruct = 4096;  // that may be taken
constexpr std::int64_t kNone = INT64_MAX;     // item that must be refused

struct Memory {
    unsigned char* at;
    std::size_t bytes;
    bool written;
    bool zeroed = false, is_report = false;  // about the step, which may have been skipped

    bool overlaps(const Memory& other) const {
        return bytes > 0 && other.bytes > 0 && at < other.at + other.bytes && other.at < at + bytes;
    }
};

class Call {
  public:
    explicit Call(FuzzedDataProvider& data)
        : data(data), together_(data.ConsumeBool()), block_(new unsigned char[kBlock]) {
        fill(block_.get(), kBlock);
    }

    FuzzedDataProvider& data;
    std::int64_t item = -1;  // that is being made; -1: the call itself

    // One in n.
    bool rarely(int n) { return data.ConsumeIntegralInRange(1, n) == n; }

    void refuse_if(bool bad) {
        if (bad) refused_ = std::min(refused_, item);
    }

    // If nothing else must be refused.
    void refuse_last(std::int64_t other) { refused_last_ = std::min(refused_last_, other); }

    // What was to be written was not, but for zeros.
    void set_skipped() { skipped_ = true; }

    // The number of elements of arrays; now and then negative or past the address space, whatever their type.
    std::int64_t size() {
        std::int64_t n = data.ConsumeIntegralInRange(0, together_ ? 40 : 300);
        if (rarely(32)) n = data.ConsumeIntegralInRange<std::int64_t>(INT64_MIN, -1);
        if (rarely(32)) n = data.ConsumeIntegralInRange<std::int64_t>(INT64_MAX / 2 + 1, INT64_MAX);
        if (rarely(64) && !together_) n = data.ConsumeIntegralInRange(30000, 70000);
        refuse_if(n < 0 || n > INT64_MAX / 2);
        return n;
    }

    // An array of n elements, or what must be refused in its place: a misaligned one, or null if that is an error.
    void* array(std::int64_t n, std::size_t item_size, bool written, bool may_be_null = true) {
        n = present(n);
        const bool null = may_be_null && rarely(64), odd = rarely(64);
        refuse_if(n > 0 && (null || odd));
        if (null) return nullptr;
        const std::size_t shift = odd ? 1 : 0, bytes = static_cast<std::size_t>(n) * item_size + shift;
        unsigned char* base;
        if (together_ && bytes <= kBlock)
            base = block_.get() + item_size * data.ConsumeIntegralInRange<std::size_t>(0, (kBlock - bytes) / item_size);
        else
            fill(base = allocate(bytes), bytes);
        arrays.push_back({base + shift, bytes - shift, written});
        return base + shift;
    }

    // The same array as another, to be written.
    void* same(void* other, std::int64_t n, std::size_t item_size) {
        if (other) arrays.push_back({static_cast<unsigned char*>(other), present(n) * item_size, true});
        return other;
    }

    unsigned char* allocate(std::size_t bytes) {
        own_.push_back(std::make_unique<unsigned char[]>(bytes));
        return own_.back().get();
    }

    const char* string(const std::string& text) {
        return static_cast<const char*>(std::memcpy(allocate(text.size() + 1), text.c_str(), text.size() + 1));
    }

    // The size that a struct claims, of at least `least` bytes to be taken.
    std::size_t struct_size(std::size_t whole, std::size_t least) {
        std::size_t size = whole;
        if (rarely(8)) size = least + 8 * data.ConsumeIntegralInRange<std::size_t>(0, (whole - least) / 8 + 4);
        if (rarely(64)) size = data.ConsumeIntegral<std::size_t>();
        refuse_if(size < least || size > kLargestStruct || size % 8 != 0);
        return size;
    }

    // Writes as much of a struct as its size lets exist, and the tail after it.
    template <class Struct> void place(const Struct& value, std::size_t size, unsigned char* to) {
        std::memcpy(to, &value, std::min(size, sizeof value));
        if (size <= sizeof value) return;
        std::memset(to + sizeof value, 0, size - sizeof value);
        if (!rarely(4)) return;
        to[data.ConsumeIntegralInRange(sizeof value, size - 1)] = 1;
        refuse_if(true);
    }

    // A struct that begins with its size, in memory of its own.
    template <class Struct> const Struct* sized_struct(Struct value, std::size_t size) {
        if (rarely(64)) {
            refuse_if(true);
            return nullptr;
        }
        value.size = size;
        const std::size_t there = size < sizeof(std::size_t) || size > kLargestStruct ? sizeof value : size;
        unsigned char* const to = allocate(there);
        place(value, there, to);
        return reinterpret_cast<const Struct*>(to);
    }

    // A number within limits, mostly of an ordinary size; now and then any number.
    double number(double minimum, double maximum, bool is_flag = false) {
        double value = is_flag ? data.ConsumeIntegralInRange(0, 1)
                               : data.ConsumeFloatingPointInRange(minimum, std::min(maximum, 1e3));
        if (minimum == -1 && value < 0) value = minimum;
        if (minimum == -1 && rarely(32)) value = -0.5;
        if (rarely(32)) value = maximum;
        if (rarely(32)) value = std::nextafter(maximum, HUGE_VAL);
        if (rarely(32)) value = data.ConsumeFloatingPoint<double>();
        return value;
    }

    void limit(double value, double minimum, double maximum, bool is_flag = false) {
        const bool is_off = minimum == -1 && value == -1;
        refuse_if(!(is_off || (value >= 0 && value <= maximum)) || (is_flag && value != 0 && value != 1));
        may_overflow_ |= value > 1e100;
    }

    double limited(double minimum, double maximum) {
        const double value = number(minimum, maximum);
        limit(value, minimum, maximum);
        return value;
    }

    // What f, which takes a place for errors and returns a code, may do: write the arrays that are to be written, if it
    // is not refused. `overlaps`: arrays that overlap may be a reason, and which do was not worked out.
    template <class F> void run(bool overlaps, bool detailed, F f) {
        std::vector<std::vector<unsigned char>> before;
        for (const Memory& m : arrays) before.emplace_back(m.at, m.at + m.bytes);
        const std::vector<unsigned char> block(block_.get(), block_.get() + kBlock);
        fusedstep_error error = {sizeof error, -2, "none"};
        if (detailed && rarely(16)) {
            error.size = data.ConsumeIntegral<std::size_t>();
            if (error.size < sizeof error || error.size > kLargestStruct || error.size % 8 != 0) refused_ = -2;
        }
        if (refused_ == kNone) refused_ = refused_last_;
        const int code = f(detailed ? &error : nullptr);
        check(code >= FUSEDSTEP_OK && code < FUSEDSTEP_INTERNAL_ERROR, "no such code");
        const bool refused = refused_ != kNone;
        check(!refused || code != FUSEDSTEP_OK, "took what it must refuse");
        const bool overflow = may_overflow_ && code == FUSEDSTEP_OUT_OF_RANGE;
        const bool may_overlap = overlaps && together_ && code == FUSEDSTEP_OVERLAP;
        check(refused || code == FUSEDSTEP_OK || overflow || may_overlap, "refused what it must take");
        if (refused_ == -2) check(error.item == -2, "wrote an error where none can be");
        if (detailed && refused_ != -2) {
            check(code != FUSEDSTEP_OK || (error.item == -1 && !error.field), "an error without one");
            check(code == FUSEDSTEP_OK || !refused || error.item == refused_ || (overflow && error.item < refused_),
                  "blamed another item");
        }

        std::vector<bool> may_change(kBlock);
        for (std::size_t i = 0; i < arrays.size(); ++i) {
            const Memory& m = arrays[i];
            const bool inside = m.at >= block_.get() && m.at < block_.get() + kBlock;
            const bool written = is_changed(m);
            if (code == FUSEDSTEP_OK && m.zeroed)
                check(std::all_of(m.at, m.at + m.bytes, [](unsigned char byte) { return byte == 0; }), "left no zeros");
            if (code == FUSEDSTEP_OK && written && inside)
                std::fill_n(may_change.begin() + (m.at - block_.get()), m.bytes, true);
            if (code != FUSEDSTEP_OK || (!written && !inside && !is_written(m)))
                check(std::equal(m.at, m.at + m.bytes, before[i].begin()), "wrote what it may only read");
        }
        for (std::size_t i = 0; i < kBlock; ++i)
            check(may_change[i] || block[i] == block_[i], "wrote outside what it was given to write");
    }

    std::vector<Memory> arrays;

  private:
    bool is_changed(const Memory& m) const { return m.written && (!skipped_ || m.zeroed || m.is_report); }

    bool is_written(const Memory& m) const {
        return std::any_of(arrays.begin(), arrays.end(),
                           [&](const Memory& other) { return is_changed(other) && other.overlaps(m); });
    }

    // How many elements there are in memory where n are announced.
    static std::int64_t present(std::int64_t n) { return n < 0 || n > 100000 ? 1 : n; }

    void fill(unsigned char* to, std::size_t n) {
        auto state = data.ConsumeIntegral<std::uint32_t>();
        for (std::size_t i = 0; i < n; ++i)
            to[i] = static_cast<unsigned char>((state = state * 1664525 + 1013904223) >> 24);
    }

    bool together_;
    bool may_overflow_ = false;  // a coefficient, of a number that is allowed
    bool skipped_ = false;
    std::int64_t refused_ = kNone;  // the first item that must be; -1: for the call; -2: the place for errors
    std::int64_t refused_last_ = kNone;
    std::unique_ptr<unsigned char[]> block_;
    std::vector<std::unique_ptr<unsigned char[]>> own_;
};

}  // namespace
