#include "crossbar_body.hpp"

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

namespace detail {

void conv_scalar(const ConvJob& job, const ConvPiece& piece) { ConvRounds<ScalarFloats>(job, piece).run(); }
void vectors_scalar(const VectorJob& job, std::size_t begin, std::size_t end) { VectorRounds<ScalarFloats>(job, begin, end).run(); }

}  // namespace detail
}  // namespace cimrobust
