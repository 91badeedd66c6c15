#include <immintrin.h>

#include "level_body.hpp"
#include "program_body.hpp"

namespace cimrobust {
namespace {

/// Eight lanes of AVX2.
struct Avx2Lanes {
    static constexpr std::size_t kWidth = 8;
    using Int = __m256i;
    using Float = __m256;

    static Int set(std::uint32_t value) { return _mm256_set1_epi32(static_cast<int>(value)); }
    static Int ramp(std::uint32_t first) { return _mm256_add_epi32(set(first), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7)); }
    static Float setf(float value) { return _mm256_set1_ps(value); }
    static Float load(const float* from) { return _mm256_loadu_ps(from); }
    static void store(float* to, Float value) { _mm256_storeu_ps(to, value); }
    static Int load_index(const std::int32_t* from) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from)); }
    static Int add(Int a, Int b) { return _mm256_add_epi32(a, b); }
    static Int bit_xor(Int a, Int b) { return _mm256_xor_si256(a, b); }
    static Int bit_and(Int a, Int b) { return _mm256_and_si256(a, b); }
    static void multiply(Int a, std::uint32_t b, Int& high, Int& low) {
        const Int factor = set(b);
        const Int even = _mm256_mul_epu32(a, factor);
        const Int odd = _mm256_mul_epu32(_mm256_srli_epi64(a, 32), factor);
        high = _mm256_blend_epi32(_mm256_srli_epi64(even, 32), odd, 0xAA);
        low = _mm256_blend_epi32(even, _mm256_slli_epi64(odd, 32), 0xAA);
    }
    static Int top_bit_mask(Int a) { return _mm256_srai_epi32(a, 31); }
    template <int kCount>
    static Int shift_right(Int a) {
        return _mm256_srli_epi32(a, kCount);
    }
    static Float to_float(Int a) { return _mm256_cvtepi32_ps(a); }
    static Int bits(Float a) { return _mm256_castps_si256(a); }
    static Float from_bits(Int a) { return _mm256_castsi256_ps(a); }
    static Float gather(const float* base, Int index) { return _mm256_i32gather_ps(base, index, 4); }
    static Float addf(Float a, Float b) { return _mm256_add_ps(a, b); }
    static Float subf(Float a, Float b) { return _mm256_sub_ps(a, b); }
    static Float mulf(Float a, Float b) { return _mm256_mul_ps(a, b); }
    static Float minf(Float a, Float b) { return _mm256_min_ps(a, b); }
    static Float maxf(Float a, Float b) { return _mm256_max_ps(a, b); }
    static Float divf(Float a, Float b) { return _mm256_div_ps(a, b); }
    static Int multiply_low(Int a, std::uint32_t b) { return _mm256_mullo_epi32(a, set(b)); }
    static Int shift_right_by(Int a, int count) { return _mm256_srl_epi32(a, _mm_cvtsi32_si128(count)); }
    static Int to_int(Float a) { return _mm256_cvtps_epi32(a); }
    static Int less_mask(Int a, std::uint32_t b) {
        // There is no unsigned comparison: turning the top bits round makes the signed one do.
        const Int top = set(0x80000000U);
        return _mm256_cmpgt_epi32(set(b ^ 0x80000000U), bit_xor(a, top));
    }
};

}  // namespace

namespace detail {

void program_avx2(const ProgramLayer& layer, const ProgramSpec& spec, const QuantileTable& table, StreamKey stream,
                  std::span<float> programmed) {
    program_all<Avx2Lanes>(layer, spec, table, stream, programmed);
}

void levels_avx2(const LevelLayer& layer, const LevelSpec& spec, const QuantileTable& table, StreamKey stream, const LevelOutput& output) {
    levels_all<Avx2Lanes>(layer, spec, table, stream, output);
}

}  // namespace detail
}  // namespace cimrobust
