#include "crossbar/conv.hpp"
#include "crossbar/scalar_floats.hpp"
#include "crossbar/vectors.hpp"

namespace cimrobust::detail {

void conv_scalar(const ConvJob& job, const ConvPiece& piece) { ConvRounds<ScalarFloats>(job, piece).run(); }
void vectors_scalar(const VectorJob& job, std::size_t begin, std::size_t end) { VectorRounds<ScalarFloats>(job, begin, end).run(); }

}  // namespace cimrobust::detail
