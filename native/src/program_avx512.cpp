#include <immintrin.h>

#include "level_body.hpp"
#include "program_body.hpp"

namespace cimrobust {
namespace {

/// Sixteen lanes of AVX-512.
struct Avx512Lanes {
    static constexpr std::size_t kWidth = 16;
    using Int = __m512i;
    using Float = __m512;

    static Int set(std::uint32_t value) { return _mm512_set1_epi32(static_cast<int>(value)); }
    static Int ramp(std::uint32_t first) {
        return _mm512_add_epi32(set(first), _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15));
    }
    static Float setf(float value) { return _mm512_set1_ps(value); }
    static Float load(const float* from) { return _mm512_loadu_ps(from); }
    static void store(float* to, Float value) { _mm512_storeu_ps(to, value); }
    static Int load_index(const std::int32_t* from) { return _mm512_loadu_si512(from); }
    static Int add(Int a, Int b) { return _mm512_add_epi32(a, b); }
    static Int bit_xor(Int a, Int b) { return _mm512_xor_si512(a, b); }
    static Int bit_and(Int a, Int b) { return _mm512_and_si512(a, b); }
    static void multiply(Int a, std::uint32_t b, Int& high, Int& low) {
        const Int factor = set(b);
        const Int even = _mm512_mul_epu32(a, factor);
        const Int odd = _mm512_mul_epu32(_mm512_srli_epi64(a, 32), factor);
        high = _mm512_mask_blend_epi32(0xAAAA, _mm512_srli_epi64(even, 32), odd);
        low = _mm512_mask_blend_epi32(0xAAAA, even, _mm512_slli_epi64(odd, 32));
    }
    static Int top_bit_mask(Int a) { return _mm512_srai_epi32(a, 31); }
    template <int kCount>
    static Int shift_right(Int a) {
        return _mm512_srli_epi32(a, kCount);
    }
    static Float to_float(Int a) { return _mm512_cvtepi32_ps(a); }
    static Int bits(Float a) { return _mm512_castps_si512(a); }
    static Float from_bits(Int a) { return _mm512_castsi512_ps(a); }
    static Float gather(const float* base, Int index) { return _mm512_i32gather_ps(index, base, 4); }
    static Float addf(Float a, Float b) { return _mm512_add_ps(a, b); }
    static Float subf(Float a, Float b) { return _mm512_sub_ps(a, b); }
    static Float mulf(Float a, Float b) { return _mm512_mul_ps(a, b); }
    static Float minf(Float a, Float b) { return _mm512_min_ps(a, b); }
    static Float maxf(Float a, Float b) { return _mm512_max_ps(a, b); }
    static Float divf(Float a, Float b) { return _mm512_div_ps(a, b); }
    static Int multiply_low(Int a, std::uint32_t b) { return _mm512_mullo_epi32(a, set(b)); }
    static Int shift_right_by(Int a, int count) { return _mm512_srl_epi32(a, _mm_cvtsi32_si128(count)); }
    static Int to_int(Float a) { return _mm512_cvtps_epi32(a); }
    static Int less_mask(Int a, std::uint32_t b) { return _mm512_movm_epi32(_mm512_cmplt_epu32_mask(a, set(b))); }
};

}  // namespace

namespace detail {

void program_avx512(const ProgramLayer& layer, const ProgramSpec& spec, const QuantileTable& table, StreamKey stream,
                    std::span<float> programmed) {
    program_all<Avx512Lanes>(layer, spec, table, stream, programmed);
}

void levels_avx512(const LevelLayer& layer, const LevelSpec& spec, const QuantileTable& table, StreamKey stream,
                   const LevelOutput& output) {
    levels_all<Avx512Lanes>(layer, spec, table, stream, output);
}

}  // namespace detail
}  // namespace cimrobust
