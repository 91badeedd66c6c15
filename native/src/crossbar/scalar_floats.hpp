#pragma once

#include <cmath>
#include <cstddef>

namespace cimrobust {
namespace {

/// One lane of plain C++.
struct ScalarFloats {
    static constexpr std::size_t kWidth = 1;
    static constexpr int kBlockRows = 4;
    static constexpr int kBlockVectors = 3;
    using Float = float;

    static Float setf(float value) { return value; }
    static Float load(const float* from) { return *from; }
    static void store(float* to, Float value) { *to = value; }
    static Float addf(Float a, Float b) { return a + b; }
    static Float mulf(Float a, Float b) { return a * b; }
    static Float fma(Float a, Float b, Float c) { return std::fma(a, b, c); }
    static Float rint(Float a) { return std::nearbyint(a); }
    static Float minf(Float a, Float b) { return a < b ? a : b; }
    static Float maxf(Float a, Float b) { return a > b ? a : b; }
};

}  // namespace
}  // namespace cimrobust
