#include <immintrin.h>

#include "crossbar/conv.hpp"
#include "crossbar/vectors.hpp"

namespace cimrobust {
namespace {

/// Sixteen lanes of AVX-512; 24 of 32 registers hold sums.
struct Avx512Floats {
    static constexpr std::size_t kWidth = 16;
    static constexpr int kBlockRows = 8;
    static constexpr int kBlockVectors = 3;
    using Float = __m512;

    static Float setf(float value) { return _mm512_set1_ps(value); }
    static Float load(const float* from) { return _mm512_loadu_ps(from); }
    static void store(float* to, Float value) { _mm512_storeu_ps(to, value); }
    static Float addf(Float a, Float b) { return _mm512_add_ps(a, b); }
    static Float mulf(Float a, Float b) { return _mm512_mul_ps(a, b); }
    static Float fma(Float a, Float b, Float c) { return _mm512_fmadd_ps(a, b, c); }
    static Float rint(Float a) { return _mm512_roundscale_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
    static Float minf(Float a, Float b) { return _mm512_min_ps(a, b); }
    static Float maxf(Float a, Float b) { return _mm512_max_ps(a, b); }
};

}  // namespace

namespace detail {

void conv_avx512(const ConvJob& job, const ConvPiece& piece) { ConvRounds<Avx512Floats>(job, piece).run(); }
void vectors_avx512(const VectorJob& job, std::size_t begin, std::size_t end) { VectorRounds<Avx512Floats>(job, begin, end).run(); }

}  // namespace detail
}  // namespace cimrobust
