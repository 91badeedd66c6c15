#include "cimrobust/program.hpp"

namespace cimrobust {

Simd best_simd() {
#ifdef CIMROBUST_X86
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
        __builtin_cpu_supports("avx512bw")) {
        return Simd::kAvx512;
    }
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) {
        return Simd::kAvx2;
    }
#endif
    return Simd::kScalar;
}

void program_weights(const ProgramLayer& layer, const ProgramSpec& spec, const QuantileTable& table, StreamKey stream, Simd simd,
                     std::span<float> programmed) {
#ifdef CIMROBUST_X86
    if (simd == Simd::kAvx512) {
        return detail::program_avx512(layer, spec, table, stream, programmed);
    }
    if (simd == Simd::kAvx2) {
        return detail::program_avx2(layer, spec, table, stream, programmed);
    }
#endif
    static_cast<void>(simd);
    detail::program_scalar(layer, spec, table, stream, programmed);
}

void program_levels(const LevelLayer& layer, const LevelSpec& spec, const QuantileTable& table, StreamKey stream, Simd simd,
                    const LevelOutput& output) {
#ifdef CIMROBUST_X86
    if (simd == Simd::kAvx512) {
        return detail::levels_avx512(layer, spec, table, stream, output);
    }
    if (simd == Simd::kAvx2) {
        return detail::levels_avx2(layer, spec, table, stream, output);
    }
#endif
    static_cast<void>(simd);
    detail::levels_scalar(layer, spec, table, stream, output);
}

}  // namespace cimrobust
