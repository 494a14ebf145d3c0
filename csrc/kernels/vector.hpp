// Vectors of elements, prefetches, and non-temporal stores for results larger than the cache: a full line is written
// without being read first.
#pragma once

#include <cstdint>
#include <cstring>

#if defined(__GNUC__) && defined(__x86_64__)
#include <immintrin.h>
#define FUSEDSTEP_STREAMS 1
#endif

// Without a name for the reason given in stages_around.hpp.
namespace {

// The elements from p on that a V holds: one, or a vector of them.
template <class V, class T> V elements(const T* p) {
    V v;
    std::memcpy(&v, p, sizeof v);
    return v;
}

// Prefetches n elements; the range may run past the end of the array.
template <class T> void prefetch(const T* p, std::int64_t n) {
#if defined(__GNUC__)
    for (std::int64_t i = 0; i < n; i += 64 / sizeof(T)) __builtin_prefetch(p + i);
#endif
}

#ifdef FUSEDSTEP_STREAMS

#ifdef __AVX__
constexpr int kVectorBytes = 32;
#else
constexpr int kVectorBytes = 16;
#endif

template <class T> using Vector __attribute__((vector_size(kVectorBytes))) = T;

#ifdef __AVX__
inline Vector<double> doubles(const float* p) {
    return _mm256_cvtps_pd(_mm_loadu_ps(p));
}
inline void stream(float* to, Vector<float> v) {
    _mm256_stream_ps(to, v);
}
inline void stream(double* to, Vector<double> v) {
    _mm256_stream_pd(to, v);
}
#else
inline Vector<double> doubles(const float* p) {
    return _mm_cvtps_pd(_mm_castsi128_ps(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p))));
}
inline void stream(float* to, Vector<float> v) {
    _mm_stream_ps(to, v);
}
inline void stream(double* to, Vector<double> v) {
    _mm_stream_pd(to, v);
}
#endif

// out[i] = f(i, T()) for each i from begin to end; f(i, Vector<T>()) is f(i, T()), f(i + 1, T()), ...
template <class T, class F> void stream_each(T* out, std::int64_t begin, std::int64_t end, F f) {
    constexpr int width = kVectorBytes / sizeof(T);
    std::int64_t i = begin;
    for (; i < end && reinterpret_cast<std::uintptr_t>(out + i) % kVectorBytes != 0; ++i) out[i] = f(i, T());
    for (; i + width <= end; i += width) stream(out + i, f(i, Vector<T>()));
    for (; i < end; ++i) out[i] = f(i, T());
}

// Orders the streaming stores before all later stores (sfence).
inline void order_streamed_stores() {
    _mm_sfence();
}

#else

template <class T> using Vector = T;

inline double doubles(const float* p) {
    return static_cast<double>(*p);
}

template <class T, class F> void stream_each(T* out, std::int64_t begin, std::int64_t end, F f) {
    for (std::int64_t i = begin; i < end; ++i) out[i] = f(i, T());
}

inline void order_streamed_stores() {}

#endif

// The elements from p on that a Vector<double> holds.
inline Vector<double> doubles(const double* p) {
    return elements<Vector<double>>(p);
}

}  // namespace
