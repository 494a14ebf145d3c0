// The floating-point mode of the kernels: round to nearest, no traps, and subnormal numbers flushed to zero if so set.
#pragma once

#include <atomic>

#if defined(__x86_64__) || defined(_M_X64)
#include <xmmintrin.h>
#endif
#include <cstdint>

namespace fusedstep {

inline std::atomic<bool> flush_subnormals{true};

// Sets the mode for the calling thread, and restores the old one at the end of the scope. Workers don't inherit the
// caller's mode, so each task of a parallel region makes its own.
class FloatMode {
  public:
    explicit FloatMode(bool flush = flush_subnormals.load(std::memory_order_relaxed)) : saved_(read()) {
        write(flush ? kFlush : kPlain);
    }
    ~FloatMode() { write(saved_); }
    FloatMode(const FloatMode&) = delete;
    FloatMode& operator=(const FloatMode&) = delete;

  private:
#if defined(__x86_64__) || defined(_M_X64)
    using Register = unsigned int;
    static constexpr Register kPlain = 0x1f80, kFlush = kPlain | 0x8040;  // MXCSR: flush results, and read as zero
    static Register read() { return _mm_getcsr(); }
    static void write(Register mode) { _mm_setcsr(mode); }
#elif defined(__aarch64__)
    using Register = std::uint64_t;
    static constexpr Register kPlain = 0, kFlush = 1 << 24;  // FPCR.FZ does both
    // "memory": keeps the compiler from moving loads and stores, and so the arithmetic between them, into another mode.
    static Register read() {
        Register mode;
        __asm__ volatile("mrs %0, fpcr" : "=r"(mode) : : "memory");
        return mode;
    }
    static void write(Register mode) { __asm__ volatile("msr fpcr, %0" : : "r"(mode) : "memory"); }
#else
    using Register = int;
    static constexpr Register kPlain = 0, kFlush = 0;
    static Register read() { return 0; }
    static void write(Register) {}
#endif

    Register saved_;
};

}  // namespace fusedstep
