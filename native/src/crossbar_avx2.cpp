#include <immintrin.h>

#include "crossbar/conv.hpp"
#include "crossbar/vectors.hpp"

namespace cimrobust {
namespace {

/// Eight lanes of AVX2 with fused multiply-add; 12 of 16 registers hold sums.
struct Avx2Floats {
    static constexpr std::size_t kWidth = 8;
    static constexpr int kBlockRows = 4;
    static constexpr int kBlockVectors = 3;
    using Float = __m256;

    static Float setf(float value) { return _mm256_set1_ps(value); }
    static Float load(const float* from) { return _mm256_loadu_ps(from); }
    static void store(float* to, Float value) { _mm256_storeu_ps(to, value); }
    static Float addf(Float a, Float b) { return _mm256_add_ps(a, b); }
    static Float mulf(Float a, Float b) { return _mm256_mul_ps(a, b); }
    static Float fma(Float a, Float b, Float c) { return _mm256_fmadd_ps(a, b, c); }
    static Float rint(Float a) { return _mm256_round_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
    static Float minf(Float a, Float b) { return _mm256_min_ps(a, b); }
    static Float maxf(Float a, Float b) { return _mm256_max_ps(a, b); }
};

}  // namespace

namespace detail {

void conv_avx2(const ConvJob& job, const ConvPiece& piece) { ConvRounds<Avx2Floats>(job, piece).run(); }
void vectors_avx2(const VectorJob& job, std::size_t begin, std::size_t end) { VectorRounds<Avx2Floats>(job, begin, end).run(); }

}  // namespace detail
}  // namespace cimrobust
