#pragma once

#include <cstdint>

#include "cimrobust/program.hpp"

namespace cimrobust {
namespace {

/// Where the only table begins, less the segment number of the smallest distance.
constexpr std::uint32_t kOnlyTable = 0U - QuantileTable::kFirstSegment;

/// Deviation of one device a lane, in level units, from 32 random bits. first: where the lane's table begins.
///
/// Inverse transform: with U uniform in (0, 1), F^-1(U) has the distribution function F (L. Devroye, "Non-uniform random variate
/// generation", Springer 1986, section II.2). U is (m + 0.5) / 2^32 from the nearer end, in float32, so it is never 0 or 1. F^-1 is a line
/// between neighbouring knots of the table; the knots are quantiles of F, in a bounded box rounded towards zero so that
/// no draw leaves it.
template <class Lanes>
inline typename Lanes::Float quantile(typename Lanes::Int word, const QuantileTable& table, typename Lanes::Int first) {
    const auto upper = Lanes::top_bit_mask(word);
    // ~word counts from the upper end: both halves use small distances where the quantile function is steep.
    const auto distance = Lanes::bit_and(Lanes::bit_xor(word, upper), Lanes::set(0x7FFFFFFFU));
    // The exponent of m + 0.5 is its octave, and the top bits of the mantissa divide the octave evenly: no logarithm is needed.
    const auto bits = Lanes::bits(Lanes::addf(Lanes::to_float(distance), Lanes::setf(0.5F)));
    const auto half = Lanes::bit_and(upper, Lanes::set(static_cast<std::uint32_t>(QuantileTable::kHalfSize)));
    const auto segment = Lanes::add(Lanes::add(Lanes::template shift_right<QuantileTable::kShift>(bits), half), first);
    constexpr std::uint32_t kPlaceMask = (1U << QuantileTable::kShift) - 1U;
    const auto place = Lanes::mulf(Lanes::to_float(Lanes::bit_and(bits, Lanes::set(kPlaceMask))),
                                   Lanes::setf(1.0F / static_cast<float>(1U << QuantileTable::kShift)));
    return Lanes::addf(Lanes::gather(table.knots.data(), segment), Lanes::mulf(Lanes::gather(table.slopes.data(), segment), place));
}

}  // namespace
}  // namespace cimrobust
